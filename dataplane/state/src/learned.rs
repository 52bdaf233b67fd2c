//! What earlier requests taught about those to come: tokens for each byte by model, lengths of answers by
//! tenant and model. Steps of [`dataplane_core::admit::estimate`] by compare-and-swap.
//!
//! A fixed number of words, found by the hash of a name: nothing grows with tenants or models, nothing is
//! allocated or forgotten. Names whose hashes fall on one word are learned as one: their estimates lean to
//! each other's, which a guard band and the settlement at the end bear. Never keeps a name.

use dataplane_core::admit::estimate::{Density, Lengths};
use proto_core::model::Qos;

use crate::sync::{AtomicU64, Ordering};

/// Of one data plane.
#[derive(Debug)]
pub struct Learned {
    densities: Box<[AtomicU64]>,
    lengths: Box<[AtomicU64]>,
}

impl Learned {
    pub fn new() -> Learned {
        Learned::with_cells(CELLS)
    }

    /// For `cells` words of each kind.
    pub fn with_cells(cells: usize) -> Learned {
        let words = || (0..cells.max(1)).map(|_| AtomicU64::new(0)).collect();
        Learned { densities: words(), lengths: words() }
    }

    /// Input tokens to reserve for `bytes` to the model of that hash.
    pub fn input(&self, model: u64, bytes: u64, qos: Qos) -> u64 {
        // Order: relaxed throughout. A word is all that is known of its name.
        Density::unpack(cell(&self.densities, model).load(Ordering::Relaxed)).tokens(bytes, qos)
    }

    /// Input tokens that `bytes` to the model of that hash most likely are.
    pub fn likely_input(&self, model: u64, bytes: u64) -> u64 {
        // Order: relaxed, see `input`.
        Density::unpack(cell(&self.densities, model).load(Ordering::Relaxed)).likely(bytes)
    }

    /// The upstream counted `tokens` in a prompt of `bytes`.
    pub fn on_input(&self, model: u64, bytes: u64, tokens: u64) {
        step(cell(&self.densities, model), |word| Density::unpack(word).on_sample(bytes, tokens).pack());
    }

    /// Whether anything is known of the prompts of that model.
    pub fn knows_input(&self, model: u64) -> bool {
        // Order: relaxed, see `input`.
        Density::unpack(cell(&self.densities, model).load(Ordering::Relaxed)).is_learned()
    }

    /// The upstream expects a prompt of `bytes` to be `tokens`, with that variance.
    pub fn on_estimate(&self, model: u64, bytes: u64, tokens: u64, variance: f64) {
        let told = |word| Density::unpack(word).on_estimate(bytes, tokens, variance).pack();
        step(cell(&self.densities, model), told);
    }

    /// Output tokens to reserve for the tenant and model of that hash ([`hash_of_both`]), of which the caller
    /// allows `max_tokens`.
    pub fn output(&self, both: u64, max_tokens: Option<u64>) -> u64 {
        // Order: relaxed, see `input`.
        Lengths::unpack(cell(&self.lengths, both).load(Ordering::Relaxed)).tokens(max_tokens)
    }

    /// An answer that ended by itself had `tokens`. One that was cut says nothing.
    pub fn on_output(&self, both: u64, tokens: u64) {
        step(cell(&self.lengths, both), |word| Lengths::unpack(word).on_sample(tokens).pack());
    }
}

impl Default for Learned {
    fn default() -> Learned {
        Learned::new()
    }
}

/// One hash of a tenant's and a model's; the order matters.
pub fn hash_of_both(tenant: u64, model: u64) -> u64 {
    (tenant.rotate_left(HALF) ^ model).wrapping_mul(ODD)
}

fn cell(cells: &[AtomicU64], hash: u64) -> &AtomicU64 {
    // The high half: of a product, the low bits depend on few of the factors'.
    let high = usize::try_from(hash.wrapping_mul(ODD) >> HALF).expect("half a word");
    &cells[high % cells.len()]
}

fn step(cell: &AtomicU64, step: impl Fn(u64) -> u64) {
    // Order: relaxed, see `Learned::input`.
    let mut word = cell.load(Ordering::Relaxed);
    loop {
        let next = step(word);
        // Order: relaxed, see above.
        match cell.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => word = now,
        }
    }
}

/// Of each kind, 32 KiB: a hundred tenants with ten models each meet another with one chance in five.
const CELLS: usize = 4096;
const HALF: u32 = 32;
/// Odd with about half of its bits set, as multiplicative hashing asks: 2^64 divided by the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use dataplane_core::admit::estimate::OUTPUT_DEFAULT;

    use super::*;

    #[test]
    fn what_one_name_teaches_another_does_not_hear_and_a_shared_word_does() {
        let learned = Learned::new();
        (0..100).for_each(|_| learned.on_output(hash_of_both(1, 2), 4000));
        assert!(learned.output(hash_of_both(1, 2), None) > 2000);
        assert_eq!(learned.output(hash_of_both(2, 1), None), OUTPUT_DEFAULT);
        let merged = Learned::with_cells(1);
        (0..100).for_each(|_| merged.on_input(1, 1000, 1000));
        assert!(merged.input(2, 1000, Qos::Bronze) >= 1000);
    }

    #[test]
    fn hashes_that_differ_in_few_bits_spread_over_the_words() {
        let learned = Learned::new();
        let place = |hash| std::ptr::from_ref(cell(&learned.lengths, hash)) as usize;
        let places: HashSet<usize> = (0..20)
            .flat_map(|tenant| (0..20).map(move |model| (tenant, model)))
            .map(|(tenant, model)| place(hash_of_both(tenant, model)))
            .collect();
        // Four hundred balls in 4096 boxes: 381 by chance.
        assert!(places.len() > 350, "{}", places.len());
    }
}
