//! One measured number, and how it is shown.

use serde_json::{Value, json};

/// A number with what it should be and what it stands beside.
pub(super) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    target: Option<Target>,
    beside: Option<(String, f64)>,
}

/// What a figure should be.
#[derive(Clone, Copy)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    pub(super) fn new(name: &str, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit,
            target: None,
            beside: None,
        }
    }

    /// The same with what it should be.
    pub(super) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// The same as a multiple of something the machine was measured to do in this run.
    pub(super) fn beside(mut self, what: &str, times: f64) -> Self {
        self.beside = Some((what.to_owned(), times));
        self
    }

    fn met(&self) -> Option<bool> {
        self.target.map(|target| match target {
            Target::AtLeast(least) => self.value >= least,
            Target::AtMost(most) => self.value <= most,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut object = json!({ "name": self.name.trim(), "value": round(self.value), "unit": self.unit });
        if let Some(target) = self.target {
            object["target"] = match target {
                Target::AtLeast(least) => json!({ "atLeast": least }),
                Target::AtMost(most) => json!({ "atMost": most }),
            };
            object["met"] = json!(self.met());
        }
        if let Some((what, times)) = &self.beside {
            object["beside"] = json!({ "what": what, "times": round(*times) });
        }
        object
    }

    fn cells(&self) -> [String; 4] {
        let target = match self.target {
            None => String::new(),
            Some(Target::AtLeast(least)) => format!(">= {}", short(least)),
            Some(Target::AtMost(most)) => format!("<= {}", short(most)),
        };
        let met = match self.met() {
            None => "",
            Some(true) => "  met",
            Some(false) => "  missed",
        };
        let beside = self
            .beside
            .as_ref()
            .map(|(what, times)| format!("{} x {what}", short(*times)));
        [
            self.name.clone(),
            format!("{} {}", short(self.value), self.unit),
            format!("{target}{met}"),
            beside.unwrap_or_default(),
        ]
    }
}

/// All of them under each other.
pub(super) fn table(figures: &[Figure]) -> String {
    let head = [
        "",
        "measured",
        "target",
        "beside what the machine did in this run",
    ]
    .map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head)
        .chain(figures.iter().map(Figure::cells))
        .collect();
    let width = |column: fn(&[String; 4]) -> &String| {
        rows.iter()
            .map(|row| column(row).chars().count())
            .max()
            .unwrap_or_default()
    };
    let (names, values, targets) = (width(|row| &row[0]), width(|row| &row[1]), width(|row| &row[2]));
    let lines = rows.iter().map(|[name, value, target, beside]| {
        let line = format!("{name:names$}  {value:>values$}  {target:targets$}  {beside}");
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A number in about four digits, with separators between thousands.
fn short(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        for (value, text) in [
            (0.123, "0.12"),
            (12.34, "12.3"),
            (999.6, "1,000"),
            (5000.0, "5,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_target_is_met_or_missed() {
        let figures = [
            Figure::new("rate", 6_000.0, "msg/s")
                .target(Target::AtLeast(5_000.0))
                .beside("disk syncs", 2.0),
            Figure::new("time", 4.0, "ms").target(Target::AtMost(3.0)),
        ];
        let table = table(&figures);
        assert!(
            table.contains("6,000 msg/s  >= 5,000  met") && table.contains("<= 3.00  missed"),
            "{table}"
        );
        assert_eq!(figures[0].to_json()["met"], true);
        assert_eq!(figures[1].to_json()["target"]["atMost"], 3.0);
    }
}
