//! What a read may miss.

/// Asked for with `x-consistency-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// The newest state that is on disk when the read begins. Its audit event may become durable after the
    /// answer.
    #[default]
    Eventual,
    /// After every write that began before it, in one order with them, and its audit event is on disk before
    /// the answer.
    Strong,
}

impl Consistency {
    /// `EVENTUAL` or `STRONG`; clients write them in capitals.
    pub fn parse(text: &str) -> Option<Consistency> {
        match text {
            "EVENTUAL" => Some(Consistency::Eventual),
            "STRONG" => Some(Consistency::Strong),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two_levels_and_no_other() {
        assert_eq!(Consistency::parse("EVENTUAL"), Some(Consistency::Eventual));
        assert_eq!(Consistency::parse("STRONG"), Some(Consistency::Strong));
        for other in ["", "strong", "LINEARIZABLE", " STRONG"] {
            assert_eq!(Consistency::parse(other), None, "{other}");
        }
    }
}
