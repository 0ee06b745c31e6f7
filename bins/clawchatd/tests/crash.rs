//! SIGKILL at random moments loses no acknowledged message, doubles none and mixes up no order.
//!
//! `cargo xtask soak` is the long run of the same.

#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/storm.rs"]
mod storm;

use std::path::Path;

use storm::Plan;

#[test]
fn gateways_killed_at_random_lose_nothing_and_double_nothing() {
    let plan = Plan {
        messages: 400,
        kills: 6,
        seed: 1,
    };
    let summary = storm::run(Path::new(env!("CARGO_BIN_EXE_clawchatd")), &plan, &|_| ()).unwrap();
    assert!(summary.kills >= plan.kills);
    assert!(summary.queued >= 400, "{summary:?}");
    assert!(summary.arrived >= summary.queued, "{summary:?}");
    assert!(
        summary.arrived <= summary.queued + summary.in_doubt,
        "{summary:?}"
    );
}
