//! Both ends of a session, alone and together.

mod bytes;
mod contents;
mod control;
mod flow;
mod halves;
mod hostile;
mod kit;
mod link;
mod parts;
mod resume;
mod states;

use super::*;
