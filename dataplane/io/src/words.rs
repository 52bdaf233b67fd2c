//! How a fault is told to whom: the caller's dialect and what the message may name.

use bytes::Bytes;
use dataplane_core::fault::Fault;
use dataplane_core::table::Table;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Ask,
}

#[derive(Debug, Clone)]
pub struct Telling {
    pub dialect: Dialect,
}

impl Telling {
    pub fn new(dialect: Dialect) -> Telling {
        Telling { dialect }
    }
    pub fn about_path(self, _path: &str) -> Telling {
        self
    }
    pub fn among(self, _table: &Table) -> Telling {
        self
    }
    pub fn set_model(&mut self, _model: &str) {}
    pub fn body(&self, fault: Fault) -> Bytes {
        Bytes::from_static(fault.code().as_bytes())
    }
    pub fn event(&self, fault: Fault) -> Bytes {
        Bytes::from_static(fault.code().as_bytes())
    }
}
