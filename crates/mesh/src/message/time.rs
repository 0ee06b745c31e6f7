//! Times as texts: ISO 8601 in the forms that JavaScript reads and prints.

use clawchat_types::UnixMillis;

const DAY: i64 = 24 * 60 * 60 * 1000;
const HOUR: i64 = 60 * 60 * 1000;
const MINUTE: i64 = 60 * 1000;
const SECOND: i64 = 1000;

/// The time a text names, if it is one of ECMAScript's ISO forms: a year, month or day, or a day and a time of day, with
/// `Z`, an offset, or (read as UTC) neither. Times before 1970 are 1970.
#[must_use]
pub fn read_time(text: &str) -> Option<UnixMillis> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let days = read_date(date)?;
    let millis = match time {
        Some(time) => read_time_of_day(time)?,
        None => 0,
    };
    let millis = days.checked_mul(DAY)?.checked_add(millis)?;
    Some(UnixMillis(u64::try_from(millis).unwrap_or(0)))
}

/// A time as `Date.toISOString` prints it.
pub(crate) fn print_time(time: UnixMillis) -> String {
    // The last time JavaScript has, in September of the year 275760.
    let millis = i64::try_from(time.0)
        .unwrap_or(i64::MAX)
        .min(8_640_000_000_000_000);
    let (year, month, day) = civil(millis.div_euclid(DAY));
    let rest = millis.rem_euclid(DAY);
    let year = if year > 9999 {
        format!("+{year:06}")
    } else {
        format!("{year:04}")
    };
    format!(
        "{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / HOUR,
        rest % HOUR / MINUTE,
        rest % MINUTE / SECOND,
        rest % SECOND
    )
}

/// Days since 1970-01-01.
fn read_date(text: &str) -> Option<i64> {
    let (year, rest) = match text.as_bytes().first()? {
        sign @ (b'+' | b'-') => {
            let year = number(text.get(1..7)?)?;
            if *sign == b'-' && year == 0 {
                return None;
            }
            (if *sign == b'-' { -year } else { year }, text.get(7..)?)
        }
        _ => (number(text.get(..4)?)?, text.get(4..)?),
    };
    let (month, rest) = part(rest)?;
    let (day, rest) = part(rest)?;
    if !rest.is_empty() || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    Some(days(year, month, day))
}

/// `-NN` at the front, or 1 where nothing is left.
fn part(text: &str) -> Option<(i64, &str)> {
    if text.is_empty() {
        return Some((1, text));
    }
    let rest = text.strip_prefix('-')?;
    Some((number(rest.get(..2)?)?, rest.get(2..)?))
}

/// Milliseconds since midnight, UTC.
fn read_time_of_day(text: &str) -> Option<i64> {
    let zone = text.find(['Z', '+', '-']).unwrap_or(text.len());
    let (clock, zone) = text.split_at_checked(zone)?;
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) if clock.len() == 8 => (clock, fraction_millis(fraction)?),
        Some(_) => return None,
        None => (clock, 0),
    };
    let (hours, minutes) = hours_and_minutes(clock.get(..5)?)?;
    let seconds = match clock.get(5..)? {
        "" => 0,
        seconds => number(seconds.strip_prefix(':').filter(|digits| digits.len() == 2)?)?,
    };
    let millis = hours * HOUR + minutes * MINUTE + seconds * SECOND + fraction;
    if hours > 24 || minutes > 59 || seconds > 59 || millis > DAY {
        return None;
    }
    let offset = match zone.as_bytes().first() {
        None => 0,
        Some(b'Z') if zone.len() == 1 => 0,
        Some(sign @ (b'+' | b'-')) => {
            let (hours, minutes) = hours_and_minutes(zone.get(1..)?)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * HOUR + minutes * MINUTE;
            if *sign == b'-' { -offset } else { offset }
        }
        Some(_) => return None,
    };
    Some(millis - offset)
}

fn hours_and_minutes(text: &str) -> Option<(i64, i64)> {
    let (hours, minutes) = text.split_once(':').filter(|_| text.len() == 5)?;
    Some((number(hours).filter(|_| hours.len() == 2)?, number(minutes)?))
}

/// The first three digits behind the point.
fn fraction_millis(digits: &str) -> Option<i64> {
    number(digits.get(..1)?)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let first: String = digits.chars().chain("00".chars()).take(3).collect();
    number(&first)
}

/// A number of digits alone.
fn number(digits: &str) -> Option<i64> {
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years are counted from March, in eras of 400.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The reverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_of_javascript_are_read() {
        for (text, millis) in [
            ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
            ("2026-01-02T03:04:05Z", 1_767_323_045_000),
            ("2026-01-02T03:04Z", 1_767_323_040_000),
            ("2026-01-02T03:04:05.6789Z", 1_767_323_045_678),
            ("2026-01-02T03:04:05.6Z", 1_767_323_045_600),
            ("2026-01-02T05:04:05.678+02:00", 1_767_323_045_678),
            ("2026-01-01T23:34:05.678-03:30", 1_767_323_045_678),
            ("2026-01-02T24:00Z", 1_767_398_400_000),
            ("2026-01-02", 1_767_312_000_000),
            ("2026-01", 1_767_225_600_000),
            ("2026", 1_767_225_600_000),
            ("+002026-01-02", 1_767_312_000_000),
            ("2024-02-29", 1_709_164_800_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
            ("1969-12-31", 0),
        ] {
            assert_eq!(read_time(text), Some(UnixMillis(millis)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_time() {
        for text in [
            "",
            "not a date",
            "T",
            "2026-",
            "2026-1-2",
            "2026-13-01",
            "2025-02-29",
            "2026-00-01",
            "2026-01-02T",
            "2026-01-02T3:04Z",
            "2026-01-02T03Z",
            "2026-01-02T03:04:5Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T25:00Z",
            "2026-01-02T24:01Z",
            "2026-01-02T03:60Z",
            "2026-01-02T03:04Zx",
            "2026-01-02T03:04+2:00",
            "-000000-01-01",
            "2026-01-02T03:04:05.678z",
            " 2026",
            "1767322800000",
            "2026-01-02 03:04",
            "２026",
            "2026-01-02T03:04:05.6é",
        ] {
            assert_eq!(read_time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(millis in 0_u64..8_640_000_000_000_000) {
            let text = print_time(UnixMillis(millis));
            prop_assert_eq!(read_time(&text), Some(UnixMillis(millis)), "{}", text);
        }

        #[test]
        fn garbage_is_no_panic(text in "[0-9TZ:+.é-]{0,30}") {
            let _ = read_time(&text);
        }
    }
}
