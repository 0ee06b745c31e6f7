//! `cargo xtask layers`: the house's floor plan, compared with what the manifests say.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::{TaskResult, build, say};

/// Which of our crates a crate may depend on outside its tests. Arrows point down only.
const ALLOWED: &[(&str, &[&str])] = &[
    ("clawchat-types", &[]),
    ("clawchat-identity", &["clawchat-types"]),
    ("clawchat-snap2p", &["clawchat-identity", "clawchat-types"]),
    ("clawchat-px1", &["clawchat-types"]),
    ("clawchat-mesh", &["clawchat-identity", "clawchat-types"]),
    ("clawchat-store", &["clawchat-types"]),
    ("clawchat-router", &["clawchat-types"]),
    ("clawchat-ipc", &["clawchat-types"]),
    (
        "clawchat-node",
        &[
            "clawchat-identity",
            "clawchat-px1",
            "clawchat-snap2p",
            "clawchat-types",
        ],
    ),
    (
        "clawchat-gateway",
        &[
            "clawchat-identity",
            "clawchat-ipc",
            "clawchat-mesh",
            "clawchat-node",
            "clawchat-px1",
            "clawchat-router",
            "clawchat-snap2p",
            "clawchat-store",
            "clawchat-types",
        ],
    ),
    ("clawchat-testkit", &["clawchat-identity", "clawchat-types"]),
    ("clawchatd", &["clawchat-gateway"]),
    ("clawchat", &["clawchat-ipc", "clawchat-types"]),
];

/// Crates that stand outside the house: they may use any of it and nothing may use them.
const OUTSIDE: &[&str] = &["clawchat-examples", "xtask"];

/// Test helpers: may be used by anybody's tests, never by shipped code.
const TEST_ONLY: &str = "clawchat-testkit";

/// Outside libraries of weight and the crates that own them: nobody else names them as a dependency.
const OWNERS: &[(&str, &[&str])] = &[
    ("k256", &["clawchat-identity"]),
    ("ed25519-dalek", &["clawchat-identity"]),
    ("bip39", &["clawchat-identity"]),
    ("bip32", &["clawchat-identity"]),
    ("scrypt", &["clawchat-identity"]),
    // One codec for wire and signed bytes (`identity::cbor`).
    ("cbor2", &["clawchat-identity"]),
    ("snow", &["clawchat-snap2p"]),
    ("sled", &["clawchat-store"]),
    ("bincode", &["clawchat-store"]),
    ("libp2p", &["clawchat-node"]),
    ("tokio-tungstenite", &["clawchat-mesh"]),
    ("tokio-rustls", &["clawchat-mesh"]),
    ("ureq", &["clawchat-gateway"]),
];

/// Crates that must stay pure: no runtime, no sockets, no randomness of their own.
const PURE: &[&str] = &[
    "clawchat-types",
    "clawchat-identity",
    "clawchat-snap2p",
    "clawchat-px1",
    "clawchat-router",
];
/// What a pure crate must not depend on.
const IMPURE: &[&str] = &["tokio", "futures", "rand", "socket2", "mio"];

pub(crate) fn run() -> TaskResult {
    let metadata = MetadataCommand::new()
        .manifest_path(build::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let graph = Graph::read(&metadata);
    let findings = graph.check();
    if findings.is_empty() {
        say(&format!(
            "layers: {} crates, every arrow points down",
            graph.crates.len()
        ));
        return Ok(());
    }
    for finding in &findings {
        say(&format!("layers: {finding}"));
    }
    Err(format!(
        "{} breaches of the layering (docs/ARCHITECTURE.md says why it is so)",
        findings.len()
    ))
}

/// Every crate of the workspace with what it names as a dependency.
struct Graph {
    crates: BTreeMap<String, Dependencies>,
}

#[derive(Default)]
struct Dependencies {
    shipped: BTreeSet<String>,
    tests: BTreeSet<String>,
}

impl Graph {
    fn read(metadata: &Metadata) -> Self {
        let mut crates: BTreeMap<String, Dependencies> = BTreeMap::new();
        for package in &metadata.packages {
            let entry = crates.entry(package.name.to_string()).or_default();
            for dependency in &package.dependencies {
                let set = if dependency.kind == DependencyKind::Development {
                    &mut entry.tests
                } else {
                    &mut entry.shipped
                };
                set.insert(dependency.name.clone());
            }
        }
        Self { crates }
    }

    fn check(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (name, dependencies) in &self.crates {
            if OUTSIDE.contains(&name.as_str()) {
                continue;
            }
            let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| known == name) else {
                findings.push(format!(
                    "{name} has no place in the plan; add it to xtask/src/layers.rs"
                ));
                continue;
            };
            findings.extend(self.arrows(name, dependencies, allowed));
            findings.extend(owners(name, dependencies));
            findings.extend(purity(name, dependencies));
        }
        findings
    }

    fn arrows(&self, name: &str, dependencies: &Dependencies, allowed: &[&str]) -> Vec<String> {
        let ours = |set: &BTreeSet<String>| -> Vec<String> {
            set.iter()
                .filter(|dependency| self.crates.contains_key(*dependency))
                .cloned()
                .collect()
        };
        let mut findings = Vec::new();
        for dependency in ours(&dependencies.shipped) {
            if !allowed.contains(&dependency.as_str()) {
                findings.push(format!("{name} depends on {dependency}, which is not below it"));
            }
        }
        for dependency in ours(&dependencies.tests) {
            // Tests may go as far down as the crate itself, use the helpers, talk to a binary's socket, and sign what
            // neighbours of a binary send it.
            let known = allowed.contains(&dependency.as_str())
                || dependency == TEST_ONLY
                || (name == "clawchatd"
                    && matches!(
                        dependency.as_str(),
                        "clawchat-identity" | "clawchat-ipc" | "clawchat-mesh" | "clawchat-types"
                    ));
            let cycle = name == TEST_ONLY;
            if !known || cycle {
                findings.push(format!(
                    "the tests of {name} depend on {dependency}, which is not below it"
                ));
            }
        }
        findings
    }
}

fn owners(name: &str, dependencies: &Dependencies) -> Vec<String> {
    OWNERS
        .iter()
        .filter(|(library, owners)| dependencies.shipped.contains(*library) && !owners.contains(&name))
        .map(|(library, owners)| {
            format!(
                "{name} depends on {library}, which belongs to {}",
                owners.join(", ")
            )
        })
        .collect()
}

fn purity(name: &str, dependencies: &Dependencies) -> Vec<String> {
    if !PURE.contains(&name) {
        return Vec::new();
    }
    IMPURE
        .iter()
        .filter(|library| dependencies.shipped.contains(**library))
        .map(|library| format!("{name} is pure and must not depend on {library}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(name: &str, shipped: &[&str], tests: &[&str]) -> Graph {
        let set = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        let mut crates: BTreeMap<String, Dependencies> = ALLOWED
            .iter()
            .map(|(name, _)| ((*name).to_owned(), Dependencies::default()))
            .collect();
        crates.insert(
            name.to_owned(),
            Dependencies {
                shipped: set(shipped),
                tests: set(tests),
            },
        );
        Graph { crates }
    }

    #[test]
    fn the_plan_itself_points_down_only() {
        for (position, (name, below)) in ALLOWED.iter().enumerate() {
            for dependency in *below {
                let found = ALLOWED.iter().position(|(known, _)| known == dependency);
                assert!(
                    found.is_some_and(|found| found < position),
                    "{name} -> {dependency}"
                );
            }
        }
    }

    #[test]
    fn an_arrow_up_a_stolen_library_and_an_impure_core_are_found() {
        assert!(
            graph(
                "clawchat-store",
                &["clawchat-types", "sled"],
                &["clawchat-testkit"]
            )
            .check()
            .is_empty()
        );
        assert_eq!(
            graph("clawchat-store", &["clawchat-gateway"], &[]).check().len(),
            1
        );
        assert_eq!(
            graph("clawchat-types", &["clawchat-identity"], &[]).check().len(),
            1
        );
        assert_eq!(graph("clawchat", &["clawchat-testkit"], &[]).check().len(), 1);
        assert_eq!(graph("clawchat-gateway", &["libp2p"], &[]).check().len(), 1);
        assert_eq!(graph("clawchat-router", &["tokio"], &[]).check().len(), 1);
        assert_eq!(graph("clawchat-router", &[], &["clawchat-node"]).check().len(), 1);
        assert_eq!(graph("clawchat-unheard-of", &[], &[]).check().len(), 1);
    }
}
