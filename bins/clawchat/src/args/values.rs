//! Values that need more than their type to be checked: times, durations, JSON.

use std::time::Duration;

/// Longest time that can be asked for, in milliseconds: ten years. Keeps every later sum far from overflow.
const MAX_MILLIS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// Answers for people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Text,
    /// One JSON document per command; streams: one object a line.
    Json,
}

/// A length of time in milliseconds, at most ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) u64);

impl Millis {
    /// The same as a [`Duration`].
    pub(crate) const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A port others can be told.
pub(super) fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a port, 1 to 65535".to_owned()),
        Ok(port) => Ok(port),
    }
}

/// Seconds, with a fraction if wanted: `5`, `0.25`.
pub(super) fn seconds(text: &str) -> Result<Millis, String> {
    scaled(text, 1000)
}

/// A number and a unit: `30s`, `10m`, `12h`, `7d`, `2w`; without a unit, seconds.
pub(super) fn duration(text: &str) -> Result<Millis, String> {
    const SECOND: u64 = 1000;
    let units = [
        ("ms", 1),
        ("s", SECOND),
        ("m", 60 * SECOND),
        ("h", 3600 * SECOND),
        ("d", 24 * 3600 * SECOND),
        ("w", 7 * 24 * 3600 * SECOND),
    ];
    for (unit, millis) in units {
        if let Some(number) = text.strip_suffix(unit)
            && number.ends_with(|last: char| last.is_ascii_digit())
        {
            return positive(scaled(number, millis)?);
        }
    }
    positive(seconds(text).map_err(|_| "expected a duration such as 30s, 10m, 12h or 7d".to_owned())?)
}

/// One JSON document.
pub(super) fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

fn positive(time: Millis) -> Result<Millis, String> {
    if time.0 == 0 {
        return Err("must be longer than nothing".to_owned());
    }
    Ok(time)
}

/// `text` times `unit_millis`, computed without floating point surprises for whole numbers.
fn scaled(text: &str, unit_millis: u64) -> Result<Millis, String> {
    let digits_only = |part: &str| part.chars().all(|digit| digit.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !digits_only(whole) || !digits_only(fraction) || text.ends_with('.') {
        return Err("expected a number such as 5 or 0.5".to_owned());
    }
    let too_long = || "too long: at most ten years".to_owned();
    let whole: u64 = whole.parse().map_err(|_| too_long())?;
    let mut millis = whole.checked_mul(unit_millis).ok_or_else(too_long)?;
    let mut place = unit_millis;
    for digit in fraction.bytes() {
        place /= 10;
        millis = millis.saturating_add(u64::from(digit - b'0') * place);
    }
    if millis > MAX_MILLIS {
        return Err(too_long());
    }
    Ok(Millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_others_can_connect_to() {
        assert_eq!(port("1"), Ok(1));
        assert_eq!(port("65535"), Ok(65535));
        for bad in ["0", "65536", "-1", "http", ""] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_take_fractions_and_nothing_else() {
        assert_eq!(seconds("5"), Ok(Millis(5000)));
        assert_eq!(seconds("0.25"), Ok(Millis(250)));
        assert_eq!(seconds("0"), Ok(Millis(0)));
        for bad in [
            "",
            "-1",
            "1e3",
            "inf",
            "nan",
            "1.",
            ".5",
            "5s",
            "99999999999999999999",
        ] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_take_units() {
        assert_eq!(duration("30s"), Ok(Millis(30_000)));
        assert_eq!(duration("10m"), Ok(Millis(600_000)));
        assert_eq!(duration("1.5h"), Ok(Millis(5_400_000)));
        assert_eq!(duration("7d"), Ok(Millis(604_800_000)));
        assert_eq!(duration("250ms"), Ok(Millis(250)));
        assert_eq!(duration("45"), Ok(Millis(45_000)));
        for bad in ["", "d", "7y", "-7d", "0s", "1000000d", "7 d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_payload_is_one_json_document() {
        assert!(json("{\"a\":1}").is_ok());
        assert!(json("{} {}").is_err());
        assert!(json("nope").is_err());
    }
}
