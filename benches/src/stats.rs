//! Means and their confidence.

use serde::Serialize;

/// A mean with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Mean {
    /// Of samples taken under the same conditions, by Student's t. A single sample has no interval.
    pub fn of(samples: &[f64]) -> Self {
        let n = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / n;
        let squares = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        let half = match samples.len() {
            0 | 1 => f64::INFINITY,
            _ => t_95(n - 1.0) * (squares / (n - 1.0) / n).sqrt(),
        };
        Self { mean, low: mean - half, high: mean + half }
    }
}

/// The two-sided 95 % point of Student's t: within 1 % of the table from 4 degrees of freedom up.
fn t_95(degrees: f64) -> f64 {
    1.96 + 2.4 / degrees + 2.9 / (degrees * degrees)
}

/// The value below which `share` (0 to 1) of the samples lie, by the nearest rank; 0 without samples.
pub fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (samples.len() as f64 * share).ceil() as usize;
    samples.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        // Ten samples with mean 10 and standard deviation 1: 2.262 / sqrt(10) = 0.7153.
        let spread = [-1.5, -1.0, -0.5, -0.5, 0.0, 0.0, 0.5, 0.5, 1.0, 1.5];
        let deviation = (spread.iter().map(|x| x * x).sum::<f64>() / 9.0_f64).sqrt();
        let samples: Vec<f64> = spread.iter().map(|x| 10.0 + x / deviation).collect();
        let mean = Mean::of(&samples);
        assert!((mean.mean - 10.0).abs() < 1e-9);
        assert!((mean.high - mean.mean - 0.7153).abs() < 0.01, "{mean:?}");
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!((percentile(&mut samples, 0.5) - 50.0).abs() < 1e-9);
        assert!((percentile(&mut samples, 0.99) - 99.0).abs() < 1e-9);
        assert!(percentile(&mut [], 0.5).abs() < 1e-9);
    }
}
