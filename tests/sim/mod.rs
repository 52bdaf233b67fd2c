//! A world in which the data plane's decisions run against upstreams that are made of arithmetic: a virtual
//! clock, seeded chance, the real limiter. Hours take milliseconds, and the same seed gives the same run.
//!
//! [`world::World`] is the loop; what waits in front of an upstream is a [`world::Line`], so that any queue
//! can stand there. It never looks at a real clock and never opens anything.

pub mod arrivals;
pub mod clock;
pub mod fair_broken;
pub mod fair_line;
pub mod fair_plots;
pub mod fair_record;
pub mod fair_scenarios;
pub mod figures;
pub mod scenarios;
pub mod svg;
pub mod upstream;
pub mod world;
