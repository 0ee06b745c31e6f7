//! The keys `relay`, `relays` and `nat`: how the gateway is reached, and how it helps others to be.

use clawchat_types::Locator;
use serde_json::{Map, Value};

use super::check::{Problem, problem};
use super::document::{key, shown};
use super::place::KeyPath;

/// Most addresses in `relays`, and in `nat.external`.
pub const MAX_NAT_ADDRESSES: usize = 16;

/// The `relay`, `relays` and `nat` of the file. All of them count from the next start of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatSettings {
    /// `relay.serve`: for whom this gateway is a relay.
    pub relay_serve: ServeRelay,
    /// `relays`: the relays it is reached through where routers are in the way. Each names its gateway. Default: those
    /// of contacts that offer it.
    pub relays: Vec<Locator>,
    /// `nat.mdns`: look for contacts on the local network, and be seen there. Default: yes, unless the gateway's
    /// `visibility` is stealth.
    pub mdns: bool,
    /// `nat.upnp`: ask the router to forward the gateway's ports. Default: yes.
    pub upnp: bool,
    /// `nat.autonat`: let peers try whether the gateway's addresses work, and try theirs. Default: yes.
    pub autonat: bool,
    /// `nat.holePunching`: go over from relays to direct connections where that is possible. Default: yes.
    pub hole_punching: bool,
    /// `nat.external`: addresses that lead here from the internet, of a port forwarded by hand for example.
    pub external: Vec<Locator>,
}

impl Default for NatSettings {
    fn default() -> Self {
        Self {
            relay_serve: ServeRelay::default(),
            relays: Vec::new(),
            mdns: true,
            upnp: true,
            autonat: true,
            hole_punching: true,
            external: Vec::new(),
        }
    }
}

/// For whom a gateway is a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServeRelay {
    /// `off`: nobody.
    #[default]
    Off,
    /// `contacts`: gateways of peers that the operator added, or named in an access list.
    Contacts,
    /// `anyone`: whoever asks, within limits.
    Anyone,
}

/// Checks the three keys. `quiet`: the gateway is not to be seen by strangers.
pub(super) fn nat(
    root: &KeyPath,
    document: &Map<String, Value>,
    quiet: bool,
    warnings: &mut Vec<String>,
) -> Result<NatSettings, Problem> {
    let mut settings = NatSettings {
        relay_serve: serve(root, document, warnings)?,
        mdns: !quiet,
        ..NatSettings::default()
    };
    if let Some(value) = document.get(key::RELAYS) {
        let named = |locator: &Locator| locator.peer_id().is_some();
        let what = "the address of a relay and its PeerId: /ip4/…/tcp/…/p2p/12D3KooW…";
        settings.relays = addresses(&root.key(key::RELAYS), value, what, named)?;
    }
    let at = root.key(key::NAT);
    let given = match document.get(key::NAT) {
        None => return Ok(settings),
        Some(Value::Object(given)) => given,
        Some(_) => return problem(at, "nat must be an object"),
    };
    for (name, value) in given {
        let (name, switch) = match name.as_str() {
            "mdns" => ("mdns", &mut settings.mdns),
            "upnp" => ("upnp", &mut settings.upnp),
            "autonat" => ("autonat", &mut settings.autonat),
            "holePunching" => ("holePunching", &mut settings.hole_punching),
            "external" => {
                let what = "an address of this gateway: /ip4/…/tcp/…";
                settings.external = addresses(&at.key("external"), value, what, |_| true)?;
                continue;
            }
            other => {
                let name: String = other.chars().take(64).collect();
                warnings.push(format!("{at} has a key that means nothing: {name}"));
                continue;
            }
        };
        let Some(value) = value.as_bool() else {
            return problem(at.key(name), format!("{name} must be a boolean"));
        };
        *switch = value;
    }
    Ok(settings)
}

fn serve(
    root: &KeyPath,
    document: &Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Result<ServeRelay, Problem> {
    let at = root.key(key::RELAY);
    let given = match document.get(key::RELAY) {
        None => return Ok(ServeRelay::default()),
        Some(Value::Object(given)) => given,
        Some(_) => return problem(at, "relay must be an object"),
    };
    for name in given.keys().filter(|name| *name != "serve") {
        let name: String = name.chars().take(64).collect();
        warnings.push(format!("{at} has a key that means nothing: {name}"));
    }
    match given.get("serve").map(|value| (value.as_str(), value)) {
        None | Some((Some("off"), _)) => Ok(ServeRelay::Off),
        Some((Some("contacts"), _)) => Ok(ServeRelay::Contacts),
        Some((Some("anyone"), _)) => Ok(ServeRelay::Anyone),
        Some((_, value)) => {
            let message = format!(
                "serve must be \"contacts\", \"anyone\" or \"off\" (got: {})",
                shown(Some(value))
            );
            problem(at.key("serve"), message)
        }
    }
}

fn addresses(
    at: &KeyPath,
    value: &Value,
    what: &str,
    good: impl Fn(&Locator) -> bool,
) -> Result<Vec<Locator>, Problem> {
    let Some(entries) = value.as_array() else {
        return problem(at.clone(), format!("{at} must be an array of addresses"));
    };
    if entries.len() > MAX_NAT_ADDRESSES {
        return problem(
            at.clone(),
            format!("{at} has more than {MAX_NAT_ADDRESSES} addresses"),
        );
    }
    let mut list = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let locator = entry.as_str().and_then(|text| text.parse::<Locator>().ok());
        match locator.filter(|locator| !locator.is_relayed() && good(locator)) {
            Some(locator) if list.contains(&locator) => {}
            Some(locator) => list.push(locator),
            None => return problem(at.index(index), format!("{at}[{index}] must be {what}")),
        }
    }
    Ok(list)
}
