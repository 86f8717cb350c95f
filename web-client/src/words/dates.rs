//! Days and hours in words.
//!
//! Must not live here: reading a clock or a time zone. Invariant: total for every timestamp there is.

use shared::time::Timestamp;

use super::{Language, Word};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The wall clock and the time zone a moment is worded in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The wall clock now.
    pub wall: Timestamp,
    /// Minutes to add to UTC.
    pub utc_offset_min: i32,
}

/// Returns year, month (1–12) and day (1–31) of a number of days since 1 January 1970, in the proleptic Gregorian
/// calendar.
#[must_use]
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    // Counted from 1 March of the year 0, so that the leap day is the last of a year; 146,097 days make 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

impl Local {
    fn local_ms(self, at: Timestamp) -> i64 {
        // Ten thousand years from now is far enough, and leaves the arithmetic room.
        let ms = i64::try_from(at.0).unwrap_or(i64::MAX).min(300_000_000_000_000);
        ms + i64::from(self.utc_offset_min) * MINUTE_MS
    }

    /// Returns the local day of a moment, as days since 1970: equal for moments of the same day.
    #[must_use]
    pub fn day(self, at: Timestamp) -> i64 {
        self.local_ms(at).div_euclid(DAY_MS)
    }

    /// Says the hour, `14:05`.
    #[must_use]
    pub fn hour(self, at: Timestamp) -> String {
        let minutes = self.local_ms(at).rem_euclid(DAY_MS) / MINUTE_MS;
        format!("{:02}:{:02}", minutes / 60, minutes % 60)
    }

    /// Says the hour with seconds, `14:05:09`.
    #[must_use]
    pub fn hour_and_seconds(self, at: Timestamp) -> String {
        let seconds = self.local_ms(at).rem_euclid(DAY_MS) / 1_000 % 60;
        format!("{}:{seconds:02}", self.hour(at))
    }

    /// Says the day: today, yesterday, or its date.
    #[must_use]
    pub fn day_label(self, language: Language, at: Timestamp) -> String {
        let (day, today) = (self.day(at), self.day(self.wall));
        if day == today {
            return language.word(Word::Today).to_owned();
        }
        if day == today - 1 {
            return language.word(Word::Yesterday).to_owned();
        }
        self.date(language, day)
    }

    /// Says a moment, short: the hour of today, else the date too.
    #[must_use]
    pub fn moment(self, language: Language, at: Timestamp) -> String {
        let day = self.day(at);
        if day == self.day(self.wall) {
            return self.hour(at);
        }
        format!("{} {}", self.date(language, day), self.hour(at))
    }

    fn date(self, language: Language, day: i64) -> String {
        let (year, month, day_of_month) = civil_from_days(day);
        let this_year = civil_from_days(self.day(self.wall)).0 == year;
        let name = MONTHS[(month - 1) as usize];
        match (language, this_year) {
            (Language::English, true) => format!("{name} {day_of_month}"),
            (Language::English, false) => format!("{name} {day_of_month}, {year}"),
            (Language::Chinese, true) => format!("{month}月{day_of_month}日"),
            (Language::Chinese, false) => format!("{year}年{month}月{day_of_month}日"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_the_dates_of_the_calendar() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_777, (2026, 11, 20)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil_from_days(days), date, "{days}");
        }
    }

    #[test]
    fn a_moment_is_worded_in_the_persons_own_day() {
        // 2026-11-20 23:30 UTC is already the 21st in Shanghai.
        let at = Timestamp(20_777 * DAY_MS as u64 + 23 * 3_600_000 + 30 * 60_000);
        let utc = Local { wall: at, utc_offset_min: 0 };
        let shanghai = Local { wall: at, utc_offset_min: 480 };
        assert_eq!(utc.moment(Language::English, at), "23:30");
        assert_eq!(shanghai.moment(Language::Chinese, at), "07:30");
        assert_eq!(shanghai.day(at), utc.day(at) + 1);
        let tomorrow = Local { wall: at.plus(DAY_MS as u64), utc_offset_min: 0 };
        assert_eq!(tomorrow.day_label(Language::English, at), "Yesterday");
        assert_eq!(tomorrow.moment(Language::English, at), "Nov 20 23:30");
        let next_year = Local { wall: at.plus(60 * DAY_MS as u64), utc_offset_min: 0 };
        assert_eq!(next_year.day_label(Language::Chinese, at), "2026年11月20日");
    }

    #[test]
    fn the_end_of_time_is_worded_without_a_panic() {
        let local = Local { wall: Timestamp(u64::MAX), utc_offset_min: -720 };
        assert!(!local.moment(Language::English, Timestamp(u64::MAX)).is_empty());
        assert!(!local.moment(Language::Chinese, Timestamp(0)).is_empty());
    }
}
