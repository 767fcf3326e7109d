//! How much a limit asks for: what may be typed for an option, and what is written for it in version 1 and version 2.

use crate::cgroup::file::PAGE;
use crate::cgroup::value::Value;
use crate::say::number::{decimal, fixed, parse_size};
use crate::say::show::number;

/// How much an option asks for. `None`: as much as there is.
#[derive(Debug)]
pub enum Amount {
    /// Of memory.
    Bytes(Option<u64>),
    /// Bytes of memory and swap together, and of swap alone.
    MemoryAndSwap(Option<(u64, u64)>),
    /// Microseconds of processor time in each [`PERIOD`].
    Quota(Option<u64>),
    /// Processor time in proportion, as version 1 counts it.
    Shares(u64),
    /// Processor time in proportion, as version 2 counts it.
    Weight(u64),
    /// Processors, or memory nodes, as the kernel lists them.
    List(String),
    /// Processes and threads.
    Processes(Option<u64>),
}

/// How much was typed. `None`: that is not accepted. What --memory-swap means depends on the bytes of --memory.
pub type Parse = fn(&str, Option<&Amount>) -> Option<Amount>;

impl Amount {
    /// A value for each of the files in which it is written.
    pub fn values(&self, v2: bool) -> Vec<Value> {
        let most = |n: &Option<u64>| n.map_or(Value::Unlimited, Value::Number);
        vec![match self {
            Amount::Quota(quota) if v2 => {
                let quota = quota.map_or("max".into(), number);
                Value::Text([&quota, " ", &number(PERIOD)].concat().into())
            }
            Amount::Quota(quota) => return vec![Value::Number(PERIOD), most(quota)],
            Amount::MemoryAndSwap(Some((_, swap))) if v2 => Value::Number(*swap),
            Amount::MemoryAndSwap(both) => most(&both.map(|(both, _)| both)),
            Amount::Shares(shares) if v2 => Value::Number(weight(*shares)),
            Amount::Shares(n) | Amount::Weight(n) => Value::Number(*n),
            Amount::List(list) => Value::Text(list.as_str().into()),
            // No limit is written alike in both versions.
            Amount::Processes(None) => Value::Text("max".into()),
            Amount::Bytes(n) | Amount::Processes(n) => most(n),
        }]
    }
}

/// Is no limit asked for? Docker says it by -1, the files of version 2 by `max`.
pub fn unlimited(value: &str) -> bool {
    matches!(value, "-1" | "max" | "unlimited")
}

fn within(value: &str, least: u64, most: u64) -> Option<u64> {
    decimal(value.as_bytes()).filter(|n| (least..=most).contains(n))
}

/// A size in bytes. Less than a page would be a limit of 0, at which the first process is killed. Version 1
/// would wrap silently above 2^64, and takes 2^63 for none.
fn size(value: &str) -> Option<u64> {
    parse_size(value).filter(|n| (PAGE..=8_388_607 << 40).contains(n))
}

/// A size, or none.
pub fn bytes(value: &str, _: Option<&Amount>) -> Option<Amount> {
    Some(Amount::Bytes(if unlimited(value) { None } else { Some(size(value)?) }))
}

/// A size, none, or 0.
pub fn bytes_or_zero(value: &str, memory: Option<&Amount>) -> Option<Amount> {
    if value == "0" { Some(Amount::Bytes(Some(0))) } else { bytes(value, memory) }
}

/// A size not below that of --memory.
pub fn memory_and_swap(value: &str, memory: Option<&Amount>) -> Option<Amount> {
    if unlimited(value) {
        return Some(Amount::MemoryAndSwap(None));
    }
    let both = size(value)?;
    let Some(Amount::Bytes(Some(memory))) = memory else { return None };
    Some(Amount::MemoryAndSwap(Some((both, both.checked_sub(*memory)?))))
}

/// The period of a processor limit in microseconds, the kernel's default.
const PERIOD: u64 = 100_000;

/// A number of processors. The kernel takes 1 ms at least.
pub fn quota(value: &str, _: Option<&Amount>) -> Option<Amount> {
    if unlimited(value) {
        return Some(Amount::Quota(None));
    }
    // A processor's worth of a period is 10^5.
    let quota = fixed(value.as_bytes(), 5).filter(|n| (1000..=10_000_000_000).contains(n))?;
    Some(Amount::Quota(Some(quota)))
}

/// A number from 2 to 262144: the kernel would silently move other values into this range.
pub fn shares(value: &str, _: Option<&Amount>) -> Option<Amount> {
    within(value, 2, 262_144).map(Amount::Shares)
}

/// A number from 1 to 10000.
pub fn weight_of_version_2(value: &str, _: Option<&Amount>) -> Option<Amount> {
    within(value, 1, 10_000).map(Amount::Weight)
}

/// A list. The kernel knows more of what it may name; but an empty one it would take for no write.
pub fn list(value: &str, _: Option<&Amount>) -> Option<Amount> {
    (!value.as_bytes().trim_ascii().is_empty()).then(|| Amount::List(value.into()))
}

/// A number. Docker says by 0 as well that there is no limit, and no process fits into none.
pub fn processes(value: &str, _: Option<&Amount>) -> Option<Amount> {
    if unlimited(value) {
        return Some(Amount::Processes(None));
    }
    within(value, 0, 4_194_304).map(|most| Amount::Processes(Some(most).filter(|n| *n > 0)))
}

/// The weight of version 2 (1 to 10000, usually 100) for the shares of version 1 (2 to 262144, usually
/// 1024): a curve through these three points, as runc has it since 1.3.2.
///
/// Logarithm and power are worked out here: those of the C library bring 11 KB of tables.
fn weight(shares: u64) -> u64 {
    let l = log2(shares as f64);
    // (l^2 + 125 l) / 612 - 7 / 34 in one fraction; e^x by its series, all of whose terms are positive.
    let x = (l * l + 125.0 * l - 126.0) / 612.0 * std::f64::consts::LN_10;
    let power = (1..64).fold((1.0, 1.0), |(sum, term), n| {
        let term = term * x / f64::from(n);
        (sum + term, term)
    });
    // Rounded up, but for what the arithmetic adds to a whole number.
    (power.0 - 1e-9) as u64 + 1
}

/// The binary logarithm of a number from 1 up: its whole part by halving, then a bit of the rest with
/// each squaring.
fn log2(mut n: f64) -> f64 {
    let mut log = 0.0;
    while n >= 2.0 {
        n /= 2.0;
        log += 1.0;
    }
    (1..53).fold(log, |log, bit| {
        n *= n;
        if n < 2.0 {
            return log;
        }
        n /= 2.0;
        log + 1.0 / (1u64 << bit) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_of_all_shares_is_that_of_the_c_librarys_logarithm_and_power() {
        for shares in 2..=262_144 {
            let l = (shares as f64).log2();
            let exact = 10f64.powf((l * l + 125.0 * l - 126.0) / 612.0).ceil() as u64;
            assert_eq!(weight(shares), exact, "of {shares} shares");
        }
    }

    #[test]
    fn shares_become_weights_on_the_curve_that_runc_has() {
        for (shares, expected) in [(2, 1), (1024, 100), (262_144, 10_000), (512, 59), (2048, 174)] {
            assert_eq!(weight(shares), expected, "{shares} shares");
        }
    }
}
