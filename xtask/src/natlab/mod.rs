//! `cargo xtask natlab`: our programs behind routers of every kind, in network namespaces of this machine.

mod cells;
mod igd;
mod kind;
mod member;
mod probe;
mod space;
mod talk;
mod trials;
mod world;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::cells::Cell;
use self::kind::Kind;
use self::member::Programs;
use self::space::{Lab, Unfit};
use self::talk::Talk;
use self::trials::{TRIALS, Trial};
use self::world::World;
use crate::build::{self, Profile};
use crate::gateways::Outcome;
use crate::{TaskResult, say};

/// Pairs of the short form: each way two gateways can come together, once.
const QUICK: [[Kind; 2]; 7] = [
    [Kind::PortRestricted, Kind::Public],
    [Kind::Symmetric, Kind::Upnp],
    [Kind::Public, Kind::Symmetric],
    [Kind::PortRestricted, Kind::PortRestricted],
    [Kind::Shifted, Kind::PortRestricted],
    [Kind::UdpBlocked, Kind::PortRestricted],
    [Kind::Symmetric, Kind::Symmetric],
];
/// Lines shown of the log of each gateway where something went wrong: whoever reads it may not have the files.
const LOG_LINES: usize = 40;
/// Between two looks whether somebody has interrupted this run.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is to be done.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Options {
    /// A few pairs, and the relay's death: what `cargo xtask test` runs
    #[arg(long)]
    quick: bool,
    /// Only this pair: A writes to B; may be given several times
    #[arg(long = "cell", value_name = "A,B", value_parser = pair)]
    cells: Vec<[Kind; 2]>,
    /// Only this trial; may be given several times
    #[arg(long = "trial", value_name = "NAME", value_parser = trial)]
    trials: Vec<&'static Trial>,
    /// Leave every pair standing until this run is interrupted, and say how to look around in it
    #[arg(long)]
    keep: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Only measure what the routers do
    #[arg(long)]
    probe: bool,
    /// How many pairs are played at the same time [default: the processors of this machine]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How the programs are compiled
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
    /// Take clawchatd and clawchat from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Somebody wants this run to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(options: &Options) -> TaskResult {
    let lab = Lab::open(&INTERRUPTED).map_err(|unfit| match unfit {
        Unfit::Missing(reason) | Unfit::Failed(reason) => reason,
    })?;
    heed_signals()?;
    if options.probe {
        let mut kinds = Kind::ALL.to_vec();
        leave_out_missing(&mut kinds, |kind| *kind == Kind::Upnp);
        return probe_all(&lab, &kinds);
    }
    let folder = build::binaries_or(options.programs.as_deref(), options.profile)?;
    Run::new(&lab, &folder, options).all()
}

/// The short form, unless this machine cannot have a lab.
pub(crate) fn run_where_possible() -> TaskResult {
    let lab = match Lab::open(&INTERRUPTED) {
        Ok(lab) => lab,
        Err(Unfit::Missing(reason)) => {
            say(&format!("skipped: gateways behind routers ({reason})"));
            return Ok(());
        }
        Err(Unfit::Failed(reason)) => return Err(reason),
    };
    heed_signals()?;
    let options = Options {
        quick: true,
        cells: Vec::new(),
        trials: Vec::new(),
        keep: false,
        json: false,
        probe: false,
        jobs: None,
        profile: Profile::Dev,
        programs: None,
    };
    let folder = build::binaries(Profile::Dev)?;
    Run::new(&lab, &folder, &options).all()
}

/// One run.
struct Run<'a> {
    lab: &'a Lab,
    programs: Programs,
    options: &'a Options,
    pairs: Vec<[Kind; 2]>,
    trials: Vec<&'static Trial>,
    /// Where logs of what went wrong are kept.
    logs: PathBuf,
    /// Lines come one at a time.
    printing: Mutex<()>,
    failed: AtomicUsize,
}

impl<'a> Run<'a> {
    fn new(lab: &'a Lab, folder: &Path, options: &'a Options) -> Self {
        let chosen = !options.cells.is_empty() || !options.trials.is_empty();
        let (mut pairs, mut trials) = if chosen {
            (options.cells.clone(), options.trials.clone())
        } else if options.quick {
            (
                QUICK.to_vec(),
                TRIALS.iter().filter(|trial| trial.quick).collect(),
            )
        } else {
            let all = Kind::ALL.into_iter();
            (
                all.flat_map(|a| Kind::ALL.into_iter().map(move |b| [a, b]))
                    .collect(),
                TRIALS.iter().collect(),
            )
        };
        if !chosen {
            leave_out_missing(&mut pairs, |pair| pair.contains(&Kind::Upnp));
            trials.retain(|trial| igd::missing().is_none() || !trial.takes_igd());
        }
        Self {
            lab,
            programs: Programs::of(folder),
            logs: folder.join("natlab-logs"),
            options,
            pairs,
            trials,
            printing: Mutex::default(),
            failed: AtomicUsize::new(0),
        }
    }

    fn all(&self) -> TaskResult {
        let begun = Instant::now();
        let mut kinds: Vec<Kind> = self.pairs.iter().flatten().copied().collect();
        kinds.sort_unstable_by_key(|kind| kind.name());
        kinds.dedup();
        probe_all(self.lab, &kinds)?;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.options.jobs.unwrap_or(processors);
        if !self.options.json && !self.pairs.is_empty() {
            say(&format!(
                "{:15} {:15} {:8} {:>8} {:>8} {:>8}",
                "from", "to", "path", "first", "punched", "direct"
            ));
        }
        in_parallel(jobs, &self.pairs, |pair| self.cell(*pair));
        in_parallel(jobs, &self.trials, |trial| self.trial(trial));
        self.lab.check()?;
        let (failed, all) = (
            self.failed.load(Ordering::Relaxed),
            self.pairs.len() + self.trials.len(),
        );
        let took = begun.elapsed().as_secs_f64();
        if failed > 0 {
            return Err(format!("{failed} of {all} in the lab failed, in {took:.0} s"));
        }
        say(&format!(
            "{} pairs of gateways behind routers found each other and {} trials passed, in {took:.0} s",
            self.pairs.len(),
            self.trials.len()
        ));
        Ok(())
    }

    fn cell(&self, kinds: [Kind; 2]) {
        let [a, b] = kinds;
        if self.lab.check().is_err() {
            return;
        }
        match cells::play(self.lab, &self.programs, kinds, &|world, talk, wrong| {
            self.look_around(&format!("{a}-{b}"), world, talk, wrong);
        }) {
            Ok(cell) => {
                if cell.complaint.is_some() || cell.detour.is_some() {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
                self.print(&cell.to_json(), &row(&cell));
            }
            Err(reason) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let value =
                    serde_json::json!({ "a": a.name(), "b": b.name(), "ok": false, "complaint": reason });
                self.print(&value, &format!("{a:15} {b:15} FAILED {reason}"));
            }
        }
    }

    fn trial(&self, trial: &Trial) {
        if self.lab.check().is_err() {
            return;
        }
        let begun = Instant::now();
        let outcome = trial.play(self.lab, &self.programs, &|world, talk, wrong| {
            self.look_around(trial.name, world, talk, wrong);
        });
        let took = begun.elapsed();
        let (value, line) = match outcome {
            Ok(proven) => (
                serde_json::json!({ "trial": trial.name, "ok": true, "proven": proven, "seconds": took.as_secs_f64() }),
                format!("ok     {:18} {:5.1} s  {proven}", trial.name, took.as_secs_f64()),
            ),
            Err(reason) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                (
                    serde_json::json!({ "trial": trial.name, "ok": false, "complaint": reason, "seconds": took.as_secs_f64() }),
                    format!("FAILED {:18} {:5.1} s  {reason}", trial.name, took.as_secs_f64()),
                )
            }
        };
        self.print(&value, &line);
    }

    fn print(&self, value: &Value, line: &str) {
        let _turn = self.printing.lock();
        if self.options.json {
            // Nobody reads any more: then nobody misses it.
            let _ = writeln!(std::io::stdout(), "{value}");
        } else {
            say(line);
        }
    }

    /// Saves the logs where something went wrong and shows how they end, and with `--keep` says where everything is and waits until somebody
    /// has seen enough.
    fn look_around(&self, name: &str, world: &World<'_>, talk: &Talk<'_>, wrong: bool) {
        if wrong && self.lab.check().is_ok() {
            let folder = self.logs.join(name);
            match save_logs(&folder, talk) {
                Ok(()) => say(&format!("the logs of {name} are in {}", folder.display())),
                Err(error) => say(&format!(
                    "the logs of {name} are lost: {}: {error}",
                    folder.display()
                )),
            }
            let _turn = self.printing.lock();
            for member in talk.members() {
                say(&format!("{}: {}", member.name(), member.end_of_log(LOG_LINES)));
            }
        }
        if !self.options.keep {
            return;
        }
        {
            let _turn = self.printing.lock();
            say(&format!(
                "kept: namespaces {0}net, {0}a-host, {0}b-host, … (`ip netns exec {0}a-host sh`), until interrupted",
                world.prefix()
            ));
            for member in talk.members() {
                say(&format!(
                    "  {}: home {}, log {}",
                    member.name(),
                    member.home().display(),
                    member.log().display()
                ));
            }
        }
        while self.lab.check().is_ok() {
            thread::sleep(LOOK_AGAIN);
        }
    }
}

fn save_logs(folder: &Path, talk: &Talk<'_>) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for member in talk.members() {
        std::fs::copy(member.log(), folder.join(format!("{}.log", member.name())))?;
    }
    Ok(())
}

/// Leaves out what cannot be had on this machine, and says so.
fn leave_out_missing<T>(items: &mut Vec<T>, takes_igd: impl Fn(&T) -> bool) {
    if let Some(reason) = igd::missing() {
        say(&format!(
            "skipped: routers that forward ports when asked to ({reason})"
        ));
        items.retain(|item| !takes_igd(item));
    }
}

/// Measures that the routers of these kinds do what their names say.
fn probe_all(lab: &Lab, kinds: &[Kind]) -> TaskResult {
    let wrong = Mutex::new(Vec::new());
    // They wait most of the time.
    in_parallel(kinds.len(), kinds, |kind| {
        if let Err(reason) = probe::check(lab, *kind)
            && let Ok(mut wrong) = wrong.lock()
        {
            wrong.push(reason);
        }
    });
    lab.check()?;
    let wrong = wrong.into_inner().unwrap_or_default();
    if !wrong.is_empty() {
        return Err(format!("the lab is not as it should be: {}", wrong.join("; ")));
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    if !names.is_empty() {
        say(&format!(
            "measured with plain sockets, as they should be: {}",
            names.join(", ")
        ));
    }
    Ok(())
}

/// Does the work for each item, `jobs` at a time.
fn in_parallel<T: Sync>(jobs: usize, items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// A line of the table.
fn row(cell: &Cell) -> String {
    let [a, b] = cell.kinds;
    let seconds = |time: Option<Duration>| {
        time.map_or_else(|| "-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
    };
    let mut line = format!(
        "{a:15} {b:15} {:8} {:>8} {:>8} {:>8}",
        cell.path.name(),
        seconds(cell.first),
        seconds(cell.punched),
        seconds(cell.straight)
    );
    if let Some(complaint) = &cell.complaint {
        line.push_str(&format!("  FAILED: {complaint}"));
    } else if let Some(detour) = &cell.detour {
        line.push_str(&format!("  FAILED: {detour}"));
    }
    line
}

/// From now on a signal ends this run in order: everything in the lab is removed.
fn heed_signals() -> TaskResult {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| format!("signals: {error}"))?;
    thread::spawn(move || {
        for _ in signals.forever() {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

fn pair(text: &str) -> Outcome<[Kind; 2]> {
    let (a, b) = text
        .split_once(',')
        .ok_or("two kinds with a comma between them")?;
    Ok([a.trim().parse()?, b.trim().parse()?])
}

fn trial(text: &str) -> Outcome<&'static Trial> {
    TRIALS.iter().find(|trial| trial.name == text).ok_or_else(|| {
        let names: Vec<&str> = TRIALS.iter().map(|trial| trial.name).collect();
        format!("there is no trial {text:?}; there are {}", names.join(", "))
    })
}
