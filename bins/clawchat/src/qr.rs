//! QR codes for terminals: two modules in one character.

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code, which scanners need.
const QUIET_ZONE: usize = 4;

/// A code that can be drawn.
#[derive(Debug)]
pub(crate) struct Drawing {
    dark: Vec<bool>,
    width: usize,
}

/// How the light half of a character is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As the terminal writes: light on its background.
    Plain,
    /// White on black, whatever the terminal's colours are.
    Colours,
}

impl Drawing {
    /// The code of a text; `None` when it is too long for any.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L).ok()?;
        let dark = code.to_colors().into_iter().map(|module| module == Color::Dark);
        Some(Self {
            dark: dark.collect(),
            width: code.width(),
        })
    }

    /// Columns and lines it takes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let modules = self.width + 2 * QUIET_ZONE;
        (modules, modules.div_ceil(2))
    }

    /// The lines, each with its end.
    pub(crate) fn lines(&self, paint: Paint) -> String {
        let (columns, lines) = self.size();
        let mut text = String::new();
        for line in 0..lines {
            if paint == Paint::Colours {
                text.push_str("\u{1b}[40;97m");
            }
            for column in 0..columns {
                let (upper, lower) = (
                    self.is_light(column, 2 * line),
                    self.is_light(column, 2 * line + 1),
                );
                text.push(match (upper, lower) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            if paint == Paint::Colours {
                text.push_str("\u{1b}[0m");
            }
            text.push('\n');
        }
        text
    }

    /// The module at a place of the drawing; all around the code is light.
    fn is_light(&self, column: usize, row: usize) -> bool {
        let within = |place: usize| place.checked_sub(QUIET_ZONE).filter(|place| *place < self.width);
        match (within(column), within(row)) {
            (Some(x), Some(y)) => !self.dark.get(y * self.width + x).copied().unwrap_or(false),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_corners_and_its_quiet_zone() {
        let drawing = Drawing::of("clawchat:abc").unwrap();
        let (columns, lines) = drawing.size();
        let text = drawing.lines(Paint::Plain);
        assert_eq!(text.lines().count(), lines);
        assert!(text.lines().all(|line| line.chars().count() == columns));
        let rows: Vec<&str> = text.lines().collect();
        for quiet in &rows[..QUIET_ZONE / 2] {
            assert!(quiet.chars().all(|c| c == '█'));
        }
        // The finder pattern: seven dark modules in the upper row, two of them in the lower.
        let finder: String = rows[2].chars().skip(QUIET_ZONE).take(8).collect();
        assert_eq!(finder, " ▄▄▄▄▄ █");
        assert!(drawing.lines(Paint::Colours).starts_with("\u{1b}[40;97m█"));
    }

    #[test]
    fn what_no_code_can_hold_is_not_drawn() {
        assert!(Drawing::of(&"a".repeat(2000)).is_some());
        assert!(Drawing::of(&"a".repeat(3000)).is_none());
    }
}
