//! Quantities with units: CPU, bytes, shares, and durations as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::shown;
use crate::error::{Error, Result};

/// A whole number in digits alone: the standard library takes a sign before them, too.
pub(crate) fn whole<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// CPU time a second, in thousandths of a CPU. Written as a number of CPUs: `0.5`, `2`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "f64", into = "f64")]
pub struct Cpu(u32);

impl Cpu {
    /// From thousandths of a CPU.
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    /// In thousandths of a CPU.
    pub const fn millis(self) -> u32 {
        self.0
    }
}

impl TryFrom<f64> for Cpu {
    type Error = Error;
    fn try_from(cpus: f64) -> Result<Self> {
        let millis = (cpus * 1000.0).round();
        match (0.0..=f64::from(u32::MAX)).contains(&millis) {
            true => Ok(Self(millis as u32)),
            false => {
                Err(Error::invalid(format!("cpu {cpus}"), "must be a number of CPUs, such as 0.5"))
            }
        }
    }
}

impl FromStr for Cpu {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let plain = s.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let rule = "must be a number of CPUs, such as 0.5";
        let cpus = s.parse().ok().filter(|_| plain);
        cpus.ok_or_else(|| Error::invalid(shown("cpu", s), rule))
            .and_then(|c: f64| Self::try_from(c))
    }
}

impl From<Cpu> for f64 {
    fn from(cpu: Cpu) -> Self {
        Self::from(cpu.0) / 1000.0
    }
}

/// A number of bytes. Written with a binary or decimal unit: `512MiB`, `2GB`, `65536`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "BytesText", into = "BytesText")]
pub struct ByteSize(u64);

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a number of bytes, or text such as \"512MiB\"")]
enum BytesText {
    Number(u64),
    Text(String),
}

impl TryFrom<BytesText> for ByteSize {
    type Error = Error;
    fn try_from(value: BytesText) -> Result<Self> {
        match value {
            BytesText::Number(n) => Ok(Self(n)),
            BytesText::Text(s) => s.parse(),
        }
    }
}

impl ByteSize {
    /// From bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// From mebibytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// In bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let fail = || {
            Error::invalid(
                shown("size", s),
                "must be a whole number with B, kB, MB, GB, KiB, MiB or GiB",
            )
        };
        let digits = s.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match &s[digits.len()..] {
            "" | "B" => 1,
            "kB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(fail()),
        };
        let number: u64 = whole(digits.trim_end_matches(' ')).ok_or_else(fail)?;
        number.checked_mul(unit).map(Self).ok_or_else(fail)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

/// TOML's numbers end before ours.
impl From<ByteSize> for BytesText {
    fn from(size: ByteSize) -> Self {
        match i64::try_from(size.0) {
            Ok(_) => Self::Number(size.0),
            Err(_) => Self::Text(size.to_string()),
        }
    }
}

/// A share of one hundred: 0 to 100.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u8", into = "u8")]
pub struct Percent(u8);

impl Percent {
    /// From 0 to 100.
    pub fn new(percent: u8) -> Result<Self> {
        match percent <= 100 {
            true => Ok(Self(percent)),
            false => Err(Error::invalid(format!("percent {percent}"), "must be 0 to 100")),
        }
    }

    /// 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Percent {
    type Error = Error;
    fn try_from(percent: u8) -> Result<Self> {
        Self::new(percent)
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

/// Instances, as a count or as a share of the wanted ones: `2` or `"25%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CountText", into = "CountText")]
pub enum Count {
    /// So many.
    Exactly(u32),
    /// A share of the wanted count.
    Share(Percent),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a number, or a percentage such as \"25%\"")]
enum CountText {
    Number(u32),
    Text(String),
}

impl TryFrom<CountText> for Count {
    type Error = Error;
    fn try_from(value: CountText) -> Result<Self> {
        let text = match value {
            CountText::Number(n) => return Ok(Self::Exactly(n)),
            CountText::Text(text) => text,
        };
        text.strip_suffix('%')
            .and_then(whole)
            .and_then(|p| Percent::new(p).ok())
            .map(Self::Share)
            .ok_or_else(|| {
                Error::invalid(
                    shown("count", &text),
                    "must be a number or a percentage such as \"25%\"",
                )
            })
    }
}

impl From<Count> for CountText {
    fn from(count: Count) -> Self {
        match count {
            Count::Exactly(n) => Self::Number(n),
            Count::Share(p) => Self::Text(format!("{}%", p.get())),
        }
    }
}

impl Count {
    /// Of `total`, a share rounded up.
    pub fn of_rounded_up(self, total: u32) -> u32 {
        match self {
            Self::Exactly(n) => n,
            Self::Share(p) => (u64::from(total) * u64::from(p.0)).div_ceil(100) as u32,
        }
    }

    /// Of `total`, a share rounded down.
    pub fn of_rounded_down(self, total: u32) -> u32 {
        match self {
            Self::Exactly(n) => n,
            Self::Share(p) => (u64::from(total) * u64::from(p.0) / 100) as u32,
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(*self))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 30 && n.is_multiple_of(1 << 30) => write!(f, "{}GiB", n >> 30),
            n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => write!(f, "{}MiB", n >> 20),
            n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

/// Serde for durations as people write them (`500ms`, `30s`, `5m`, `1h 30m`): jiff's friendly format.
pub(crate) use jiff::fmt::serde::unsigned_duration::friendly::compact as friendly;
