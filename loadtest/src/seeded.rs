//! Randomness that is the same on every machine and in every version.
//!
//! What it is for: arrivals, fault dice and bootstrap samples that a seed repeats exactly. `rand`'s standard
//! generator may change between versions, so a recorded run would not repeat; SplitMix64 (Steele, Lea, Flood,
//! OOPSLA 2014) is ten lines and fixed for ever. It is never used for anything that must not be guessed.

/// A SplitMix64 stream.
#[derive(Clone, Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform in (0, 1]: never zero, so that its logarithm is finite.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..bound`; the bias of the multiplication is below 2^-32 for bounds under 2^32.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }
}

/// The dice of one numbered event: the same for the same seed and number, whatever happened in between.
pub(crate) fn permille_of(seed: u64, number: u64) -> u16 {
    (mix(seed ^ mix(number.wrapping_add(GOLDEN))) % 1000) as u16
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The increment of SplitMix64: 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        // First outputs of SplitMix64 for seed 1234567, from the reference implementation.
        let mut stream = Seeded::new(1_234_567);
        assert_eq!(stream.bits(), 6_457_827_717_110_365_317);
        assert_eq!(stream.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_unit_is_never_zero_and_never_above_one() {
        let mut stream = Seeded::new(7);
        assert!((0..10_000).map(|_| stream.unit()).all(|u| u > 0.0 && u <= 1.0));
    }

    #[test]
    fn the_dice_of_an_event_repeat_and_cover_their_range() {
        let thrown: Vec<u16> = (0..10_000).map(|n| permille_of(42, n)).collect();
        assert_eq!(thrown, (0..10_000).map(|n| permille_of(42, n)).collect::<Vec<_>>());
        let below_100 = thrown.iter().filter(|&&d| d < 100).count();
        assert!((850..1150).contains(&below_100), "a tenth of 10000 is about 1000, not {below_100}");
    }
}
