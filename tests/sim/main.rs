//! What the data plane's decisions come to when they run together for a while. Every bar has a twin in which
//! what it tests is broken, and which must not reach it.

mod fair;
mod limit;
