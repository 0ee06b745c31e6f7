//! Three mesh peers in a line, killed and cut off from each other at random, end with the same log.
//!
//! `cargo xtask soak --mesh` is the long run of the same.

#[path = "common/cable.rs"]
mod cable;
#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/mesh_authors.rs"]
mod mesh_authors;
#[path = "common/mesh_guest.rs"]
mod mesh_guest;
#[path = "common/mesh_peers.rs"]
mod mesh_peers;
#[path = "common/mesh_storm.rs"]
mod mesh_storm;

use std::path::Path;

use mesh_storm::Plan;

#[test]
fn a_line_of_three_in_a_storm_ends_with_one_log() {
    let plan = Plan {
        messages: 600,
        kills: 6,
        cuts: 4,
        seed: 5,
    };
    let summary = mesh_storm::run(Path::new(env!("CARGO_BIN_EXE_clawchatd")), &plan, &|_| ()).unwrap();
    assert!(
        summary.kills >= plan.kills && summary.cuts >= plan.cuts,
        "{summary:?}"
    );
    assert!(summary.acknowledged >= 600, "{summary:?}");
    assert!(summary.stored >= summary.acknowledged, "{summary:?}");
    assert!(
        summary.stored <= summary.acknowledged + summary.in_doubt,
        "{summary:?}"
    );
    assert!(summary.repeated > 0, "{summary:?}");
}
