//! `cargo xtask sim`: many of the real state machines in one seeded network in memory.

mod cards;
mod figures;
mod peer;
mod world;

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use clawchat_px1::BookConfig;

use self::figures::Figures;
use self::world::World;
use crate::{TaskResult, say};

/// What to simulate.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// PX-1: how soon everybody can find everybody, at what cost
    Px1(Px1),
}

/// A mesh of peers that find each other by PX-1.
#[derive(Args)]
pub(crate) struct Px1 {
    /// Peers, each with an identity and an address of its own
    #[arg(long, value_name = "N", default_value_t = 1000)]
    peers: usize,
    /// Minutes of simulated time
    #[arg(long, value_name = "N", default_value_t = 8)]
    minutes: u64,
    /// Repeats the choices of an earlier run
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Contacts each peer starts with
    #[arg(long, value_name = "N", default_value_t = 3)]
    contacts: usize,
    /// Percent of the peers that leave each minute; they come back 10 to 60 s later, at another address
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    churn: u64,
    /// Searches begun each second, all peers together
    #[arg(long, value_name = "N", default_value_t = 30)]
    searches: u64,
    /// Most cards in one address book [default: as in the gateway]
    #[arg(long, value_name = "N")]
    book: Option<usize>,
    /// Begin with full books, as after a long time together
    #[arg(long)]
    warm: bool,
}

/// Share of searches that must succeed, in percent.
const TARGET_PERCENT: f64 = 99.0;
/// Time within which it must be so for the first time.
const TARGET_TIME: Duration = Duration::from_secs(5 * 60);
/// Messages that a peer may send in a minute, on average.
const TARGET_MESSAGES: f64 = 60.0;

pub(crate) fn run(options: &Options) -> TaskResult {
    match &options.what {
        What::Px1(options) => px1(options),
    }
}

fn px1(options: &Px1) -> TaskResult {
    let figures = simulate(options, &say)?;
    figures.verdict(TARGET_PERCENT, TARGET_TIME, TARGET_MESSAGES)
}

/// Lets the simulated time pass; what happened, told to `say` as well.
fn simulate(options: &Px1, say: &dyn Fn(&str)) -> Result<Figures, String> {
    if options.peers < 2 || options.minutes == 0 {
        return Err("it takes two peers and a minute".to_owned());
    }
    let begun = Instant::now();
    say(&format!(
        "sim px1: {} peers with {} contacts each, churn {} % a minute, {} min, --seed {}",
        options.peers, options.contacts, options.churn, options.minutes, options.seed
    ));
    let mut config = BookConfig::default();
    if let Some(book) = options.book {
        config.max_cards = book;
        config.max_cards_per_source = config.max_cards_per_source.min(book);
    }
    if options.warm {
        // They did not hear it all from one.
        config.max_cards_per_source = config.max_cards;
        config.max_bytes_per_source = config.max_bytes;
    }
    let mut world = World::new(options, config);
    let mut figures = Figures::default();
    say(figures::HEAD);
    for _ in 0..options.minutes * 60 / figures::WINDOW.as_secs() {
        let window = world.run_for(figures::WINDOW);
        say(&figures.add(window));
    }
    say(&figures.summary());
    say(&format!("simulated in {:.0} s", begun.elapsed().as_secs_f64()));
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The simulation in small, so that a change that spoils the figures is noticed at once. At this size news needs
    /// fewer hops, and a neighbour is a larger part of the mesh; the figures demanded are the same.
    #[test]
    fn a_hundred_peers_find_each_other_within_the_figures() {
        let options = Px1 {
            peers: 100,
            minutes: 6,
            seed: 1,
            contacts: 3,
            churn: 10,
            searches: 30,
            book: None,
            warm: false,
        };
        let figures = simulate(&options, &|_| {}).unwrap();
        let verdict = figures.verdict(TARGET_PERCENT, TARGET_TIME, TARGET_MESSAGES);
        assert_eq!(verdict, Ok(()), "{}", figures.summary());
    }
}
