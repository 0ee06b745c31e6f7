//! Unix time as text, in UTC.

const MILLIS_PER_DAY: u64 = 24 * 60 * 60 * 1000;
/// Later times are shown as their number: year 9999.
const LAST_MILLIS: u64 = 253_402_300_799_999;

/// `2026-11-21 09:30:12Z`.
pub(crate) fn date_time(unix_millis: u64) -> String {
    if unix_millis > LAST_MILLIS {
        return unix_millis.to_string();
    }
    let (year, month, day) = civil(unix_millis / MILLIS_PER_DAY);
    format!("{year:04}-{month:02}-{day:02} {}", clock(unix_millis))
}

/// `09:30:12Z`.
pub(crate) fn clock(unix_millis: u64) -> String {
    let seconds = unix_millis % MILLIS_PER_DAY / 1000;
    format!(
        "{:02}:{:02}:{:02}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01. Counts in eras of 400 years that
/// begin on the first of March, so that the leap day comes last.
const fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    const DAYS_FROM_ERA_TO_1970: u64 = 719_468;
    let days = days_since_1970 + DAYS_FROM_ERA_TO_1970;
    let era = days / DAYS_PER_ERA;
    let day_of_era = days % DAYS_PER_ERA;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        assert_eq!(date_time(0), "1970-01-01 00:00:00Z");
        assert_eq!(date_time(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(date_time(1_795_253_412_000), "2026-11-21 09:30:12Z");
        assert_eq!(date_time(4_107_542_399_999), "2100-02-28 23:59:59Z");
        assert_eq!(date_time(LAST_MILLIS), "9999-12-31 23:59:59Z");
        assert_eq!(date_time(u64::MAX), u64::MAX.to_string());
    }
}
