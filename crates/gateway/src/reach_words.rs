//! How the gateway can be reached, in plain words and as JSON.

use clawchat_node::{Reachability, RelayState};
use serde_json::{Value, json};

/// In one word, for programs.
pub(crate) fn word(facts: &Reachability) -> &'static str {
    if !facts.public.is_empty() {
        "public"
    } else if !facts.mapped.is_empty() {
        "mapped"
    } else if facts.placed().next().is_some() {
        "relayed"
    } else if facts.failed.is_empty() {
        "unknown"
    } else {
        "none"
    }
}

/// In a sentence or two, for people.
pub(crate) fn summary(facts: &Reachability) -> String {
    let relays = facts.placed().count();
    let mut words = match word(facts) {
        "public" => "reachable from the internet".to_owned(),
        "mapped" => "reachable from the internet: the router forwards a port (UPnP)".to_owned(),
        "relayed" if relays == 1 => "reachable through one relay".to_owned(),
        "relayed" => format!("reachable through {relays} relays"),
        "none" => {
            "not reachable from the internet: a router or firewall is in the way, and there is no relay; this gateway \
             can call others, and is reached on its own network"
                .to_owned()
        }
        _ => {
            "not known yet: no peer has tried whether this gateway is reachable from the internet; on its own network \
             it is"
                .to_owned()
        }
    };
    match facts.punched.len() {
        0 => {}
        1 => words.push_str("; with 1 peer the direct way was found through a relay"),
        count => words.push_str(&format!(
            "; with {count} peers the direct way was found through a relay"
        )),
    }
    let troubled: Vec<&str> = facts
        .relays
        .iter()
        .filter(|relay| relay.configured && relay.state != RelayState::Placed)
        .filter_map(|relay| relay.trouble.as_deref())
        .collect();
    if let (Some(trouble), true) = (troubled.first(), relays < 2) {
        words.push_str(&format!("; a configured relay does not help: {trouble}"));
    }
    if let Some(load) = facts.serving {
        if facts.can_serve {
            words.push_str(&format!("; relay for {} gateways", load.reservations));
        } else {
            words.push_str(
                "; no relay for others yet, although configured: for that this gateway must be reachable itself",
            );
        }
    }
    words
}

/// The field `nat` of `status`.
pub(crate) fn value(facts: &Reachability) -> Value {
    let relays = facts.relays.iter().map(|relay| {
        json!({
            "peerId": relay.peer,
            "configured": relay.configured,
            "state": match relay.state {
                RelayState::Placed => "placed",
                RelayState::Trying => "trying",
                RelayState::Idle => "idle",
            },
            "multiaddrs": relay.locators,
            "reason": relay.trouble,
        })
    });
    json!({
        "reachability": word(facts),
        "summary": summary(facts),
        "public": facts.public,
        "mapped": facts.mapped,
        "unreachable": facts.failed,
        "upnpReason": facts.mapping_trouble,
        "relays": relays.collect::<Vec<_>>(),
        "punchedPeers": facts.punched,
        "relay": facts.serving.map(|load| json!({
            "ready": facts.can_serve,
            "reservations": load.reservations,
            "circuits": load.circuits,
            "refused": load.refused,
        })),
        "changedAt": facts.changed_at.0.saturating_mul(1000),
    })
}

#[cfg(test)]
mod tests {
    use clawchat_node::{RelayLoad, RelayPlace};

    use super::*;

    fn relay(state: RelayState, trouble: Option<&str>) -> RelayPlace {
        RelayPlace {
            peer: "12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo"
                .parse()
                .unwrap(),
            configured: true,
            state,
            locators: Vec::new(),
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn the_best_way_in_is_named_and_trouble_with_its_reason() {
        let address = || vec!["/ip4/198.51.100.1/tcp/9000".parse().unwrap()];
        let mut facts = Reachability::default();
        assert_eq!(word(&facts), "unknown");
        facts.failed = address();
        assert_eq!(word(&facts), "none");
        facts.relays = vec![relay(RelayState::Idle, Some("it is full"))];
        assert!(summary(&facts).ends_with("a configured relay does not help: it is full"));
        facts.relays.push(relay(RelayState::Placed, None));
        assert_eq!(word(&facts), "relayed");
        assert!(summary(&facts).starts_with("reachable through one relay;"));
        facts.mapped = address();
        assert_eq!(word(&facts), "mapped");
        facts.public = address();
        assert_eq!(word(&facts), "public");
        facts.relays.clear();
        assert_eq!(summary(&facts), "reachable from the internet");
        facts.serving = Some(RelayLoad::default());
        assert!(summary(&facts).contains("no relay for others yet"));
        facts.can_serve = true;
        assert!(summary(&facts).ends_with("; relay for 0 gateways"));
        assert_eq!(value(&facts)["relay"]["circuits"], 0);
    }
}
