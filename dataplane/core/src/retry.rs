//! Whether to try again. A route's retry budget keeps a sick upstream from being asked more, not less: each
//! request earns a fraction of a retry, each retry spends one, and what is saved is bounded (the token-bucket
//! form of the retry budget in Finagle and Envoy).

use proto_core::model::{Fallback, Retry as Policy};
use proto_core::units::Permille;

use crate::fault::{Fault, Retry};

/// A balance in thousandths of a retry, 0 to [`Balance::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance(pub u32);

impl Balance {
    /// The most that is saved up: a burst of failures may retry this often before the budget binds.
    pub const MAX: Balance = Balance(100 * RETRY);
    /// What a new route starts with.
    pub const NEW: Balance = Balance(Policy::FLOOR * RETRY);

    /// A request was dispatched.
    #[must_use]
    pub fn on_request(self, budget: Permille) -> Balance {
        Balance(self.0.saturating_add(u32::from(budget.0)).min(Balance::MAX.0))
    }

    /// A retry wants to start: the balance after it, or `None` where there is not enough.
    pub fn on_retry(self) -> Option<Balance> {
        self.0.checked_sub(RETRY).map(Balance)
    }
}

/// Whether `fault` lets the plan go on, and whether that draws on the budget.
pub fn verdict(fault: Fault, fallback: Fallback) -> Again {
    match (fault.retry, fallback) {
        (Retry::Never, _) => Again::No,
        (_, Fallback::Never) => Again::No,
        (Retry::Elsewhere, _) => Again::WithinBudget,
        (Retry::ElsewhereAtCost, Fallback::OnError) => Again::WithinBudget,
        (Retry::ElsewhereAtCost, Fallback::OnRefusal) => Again::No,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    No,
    /// The next offer of the plan, if the budget allows.
    WithinBudget,
}

const RETRY: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    #[test]
    fn five_requests_at_two_hundred_permille_earn_one_retry() {
        let spent = (0..Policy::FLOOR).fold(Balance::NEW, |balance, _| balance.on_retry().unwrap());
        assert_eq!(spent.on_retry(), None);
        let earned = (0..5).fold(spent, |balance, _| balance.on_request(Permille(200)));
        assert_eq!(earned.on_retry(), Some(Balance(0)));
    }

    #[test]
    fn savings_are_bounded() {
        let rich = (0..1_000_000).fold(Balance::NEW, |balance, _| balance.on_request(Permille(1000)));
        assert_eq!(rich, Balance::MAX);
    }

    #[test]
    fn work_that_may_have_been_done_is_repeated_only_on_error_routes() {
        let reset = Fault::upstream(Kind::Reset, Retry::ElsewhereAtCost);
        assert_eq!(verdict(reset, Fallback::OnRefusal), Again::No);
        assert_eq!(verdict(reset, Fallback::OnError), Again::WithinBudget);
        let refused = Fault::upstream(Kind::Connect, Retry::Elsewhere);
        assert_eq!(verdict(refused, Fallback::OnRefusal), Again::WithinBudget);
        assert_eq!(verdict(refused, Fallback::Never), Again::No);
    }
}
