//! `cargo xtask natlab`: our programs behind routers of every kind, in network namespaces of this machine.

mod kind;
mod probe;
mod space;
mod world;

use std::sync::atomic::AtomicBool;

use self::kind::Kind;
use self::space::{Lab, Unfit};
use crate::{TaskResult, say};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// x
    #[arg(long)]
    quick: bool,
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(_options: &Options) -> TaskResult {
    let lab = match Lab::open(&INTERRUPTED) {
        Ok(l) => l,
        Err(Unfit::Missing(r) | Unfit::Failed(r)) => return Err(r),
    };
    for kind in Kind::ALL {
        let t = std::time::Instant::now();
        let r = probe::check(&lab, kind);
        say(&format!("{kind}: {r:?} {:?}", t.elapsed()));
    }
    Ok(())
}
