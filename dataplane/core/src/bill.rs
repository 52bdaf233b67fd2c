//! What an exchange cost: tokens by kind times the offer's prices, in picodollars, so that nothing rounds
//! away.

use proto_core::model::Price;
use proto_core::units::Picodollars;

/// Tokens of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input: u64,
    /// Of `input`, those served from the upstream's cache.
    pub cached_input: u64,
    /// Of `input`, those written to it.
    pub cache_write: u64,
    /// Answer tokens, reasoning included.
    pub output: u64,
    /// Of `output`, those spent on reasoning.
    pub reasoning: u64,
    /// Counted here because the upstream did not say; see each count's doc.
    pub estimated: bool,
}

impl Usage {
    /// At `price`; saturates at the end of the range.
    pub fn cost(&self, price: &Price) -> Picodollars {
        let cached = self.cached_input.min(self.input);
        let written = self.cache_write.min(self.input - cached);
        let reasoning = self.reasoning.min(self.output);
        let parts = [
            (self.input - cached - written, price.input),
            (cached, price.cached_input),
            (written, price.cache_write),
            (self.output - reasoning, price.output),
            (reasoning, price.reasoning),
        ];
        parts
            .into_iter()
            .fold(Picodollars(0), |sum, (tokens, each)| sum + Picodollars(tokens.saturating_mul(each.0)))
    }
}

/// What a request is expected to take, before anything is known: four bytes a token.
pub fn estimated_input(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// English text under the common tokenizers lies between 3.5 and 4.5.
const BYTES_PER_TOKEN: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_token_has_its_own_price_and_is_charged_once() {
        let price = Price {
            input: Picodollars(10),
            output: Picodollars(100),
            cached_input: Picodollars(1),
            cache_write: Picodollars(3),
            reasoning: Picodollars(1000),
        };
        let usage =
            Usage { input: 5, cached_input: 2, cache_write: 1, output: 7, reasoning: 3, estimated: false };
        assert_eq!(usage.cost(&price), Picodollars(2 * 10 + 2 + 3 + 4 * 100 + 3 * 1000));
    }

    #[test]
    fn a_share_above_its_whole_is_charged_as_the_whole() {
        let price = Price { input: Picodollars(10), cached_input: Picodollars(1), ..Price::default() };
        let usage = Usage { input: 5, cached_input: 9, cache_write: 9, ..Usage::default() };
        assert_eq!(usage.cost(&price), Picodollars(5));
    }
}
