//! Percentiles of a run, and the middle of several runs.
//!
//! Must not live here: what is measured. Invariant: a middle is never told without its lowest and highest.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Highest latency that is told apart, in microseconds.
const LONGEST_US: u64 = 120_000_000;

/// A histogram of microseconds, three digits exact.
///
/// # Panics
/// Never: the bounds are valid.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("these bounds are valid")
}

/// A histogram on its way between processes: pairs of microseconds and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts(Vec<(u64, u64)>);

impl From<&Histogram<u64>> for Counts {
    fn from(histogram: &Histogram<u64>) -> Self {
        let pairs = histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()));
        Self(pairs.collect())
    }
}

impl Counts {
    /// Adds what another process counted.
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for &(us, times) in &self.0 {
            histogram.saturating_record_n(us, times);
        }
    }
}

/// Percentiles of something, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Of how many.
    pub count: u64,
    /// The middle.
    pub p50: u64,
    /// One in ten is longer.
    pub p90: u64,
    /// One in a hundred is longer.
    pub p99: u64,
    /// One in a thousand is longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

/// One figure over several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; between two middle ones, their mean.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// Of how many runs.
    pub runs: usize,
}

impl Spread {
    /// Sums figures up; none of none, and figures that are no numbers count as none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        figures.sort_by(f64::total_cmp);
        let (&lowest, &highest) = (figures.first()?, figures.last()?);
        let runs = figures.len();
        let median = (figures[(runs - 1) / 2] + figures[runs / 2]) / 2.0;
        Some(Self { median, lowest, highest, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_figures() {
        let mut histogram = histogram();
        (1..=1_000).for_each(|us| histogram.record(us).unwrap());
        let found = Percentiles::from(&histogram);
        assert_eq!((found.count, found.p50, found.p90, found.p99), (1_000, 500, 900, 990));
        assert_eq!((found.p999, found.max), (999, 1_000));
    }

    #[test]
    fn two_halves_of_a_count_are_the_whole() {
        let (mut odd, mut even, mut whole) = (histogram(), histogram(), histogram());
        for us in 1..=50_000_u64 {
            whole.record(us).unwrap();
            if us % 2 == 0 { even.record(us).unwrap() } else { odd.record(us).unwrap() }
        }
        let mut merged = histogram();
        Counts::from(&odd).add_to(&mut merged);
        Counts::from(&even).add_to(&mut merged);
        let (merged, whole) = (Percentiles::from(&merged), Percentiles::from(&whole));
        assert_eq!((merged.count, merged.p50, merged.p99), (whole.count, whole.p50, whole.p99));
    }

    #[test]
    fn a_spread_has_middle_lowest_and_highest() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.lowest, spread.highest, spread.runs), (2.0, 1.0, 3.0, 3));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([7.0, f64::NAN]).unwrap().runs, 1);
        assert_eq!(Spread::of([]), None);
    }
}
