//! What a request passes before it is let in, and what it leaves behind: windows, permits, budgets and what
//! was learned.

use std::hint::black_box;

use dataplane_core::admit::estimate::Estimate;
use dataplane_core::admit::permits::share;
use dataplane_core::admit::window::{Kinds, Limits, Need};
use dataplane_state::learned::{Learned, hash_of_both};
use dataplane_state::pace::BudgetCell;
use dataplane_state::permits::Permits;
use dataplane_state::window::Window;
use proto_core::model::{Budget, Price, Qos};
use proto_core::units::{Moment, Picodollars, TokenCount};

use crate::scenarios::Step;

/// The cells of one tenant and one upstream.
pub struct Admission {
    pub tenant: Window,
    pub permits: Permits,
    pub budgets: BudgetCell,
}

impl Admission {
    pub fn new() -> Admission {
        Admission {
            tenant: Window::new(Kinds::TENANT, LIMITS),
            permits: Permits::new(1024, Some(10_000_000)),
            budgets: BudgetCell::default(),
        }
    }

    /// A session's envelope; each caller has its own.
    pub fn session() -> Window {
        Window::new(Kinds::SESSION, LIMITS)
    }

    /// In and out again, through all three axes of both windows and the upstream's permits.
    pub fn pass(&self, session: &Window) {
        let of_session = session.reserve(black_box(NEED)).expect("the session has room");
        let of_tenant = self.tenant.reserve(black_box(NEED)).expect("the tenant has room");
        assert!(self.permits.try_acquire(black_box(NEED.tokens), share(Qos::Gold)));
        assert!(!self.permits.release(NEED.tokens));
        self.tenant.settle(of_tenant, Need::default());
        // Nothing is spent, so that the envelope lasts for as long as anybody measures.
        session.settle(of_session, Need::default());
    }

    /// Tokens a minute and money a day, charged and corrected.
    pub fn spend(&self, now: Moment) {
        let (tokens, cost) = (black_box(NEED.tokens), black_box(NEED.picodollars));
        let charged = self.budgets.reserve(Some(&BUDGET), now, 20_000, tokens, cost);
        self.budgets.settle(charged.expect("there is enough"), 0, Picodollars(0));
    }
}

impl Default for Admission {
    fn default() -> Admission {
        Admission::new()
    }
}

pub(crate) fn windows_and_permit() -> Step {
    let (admission, session) = (Admission::new(), Admission::session());
    Box::new(move || admission.pass(&session))
}

pub(crate) fn budgets() -> Step {
    let (admission, mut now) = (Admission::new(), Moment(0));
    Box::new(move || {
        now = Moment(now.0 + 1000);
        admission.spend(now);
    })
}

pub(crate) fn estimate_and_learn() -> Step {
    let learned = Learned::new();
    let (tenant, model) = (black_box(7), black_box(11));
    let price = Price { input: Picodollars(150_000), output: Picodollars(600_000), ..Price::default() };
    Box::new(move || {
        let both = hash_of_both(tenant, model);
        let input = learned.input(model, black_box(1400), Qos::Gold);
        let estimate = Estimate::new(input, learned.output(both, Some(256)), &price);
        learned.on_input(model, 1400, 350);
        learned.on_output(both, black_box(60));
        black_box(estimate);
    })
}

const NEED: Need = Need { calls: 1, tokens: 400, picodollars: Picodollars(100_000_000) };
const LIMITS: Limits = Limits {
    calls: Some(1024),
    tokens: Some(10_000_000),
    picodollars: Some(Picodollars(100 * Picodollars::PER_USD)),
};
const BUDGET: Budget =
    Budget { usd_micros_per_day: Some(1_000_000_000), tokens_per_minute: Some(TokenCount(1_000_000_000)) };
