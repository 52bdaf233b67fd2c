//! One item but for its value: which write it is of, and how long it holds.

use std::time::Duration;

use crate::wall::Wall;

/// What is known of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The number of the write in its tenant's audit log. Grows with each write and is never used again, also
    /// not after the item was deleted.
    pub version: u64,
    /// When this place was first written since it was last empty.
    pub created: Wall,
    /// When it was last written.
    pub updated: Wall,
    /// `None`: never.
    pub expires: Option<Wall>,
}

impl Entry {
    /// The item after a write. `before`: what stands there, expired or not.
    pub fn written(before: Option<&Entry>, version: u64, now: Wall, lifetime: Option<Duration>) -> Entry {
        let created = before.filter(|entry| entry.is_live(now)).map_or(now, |entry| entry.created);
        Entry { version, created, updated: now, expires: lifetime.map(|lifetime| now.after(lifetime)) }
    }

    /// Whether it still holds; at the very moment of expiry it no longer does.
    pub fn is_live(&self, now: Wall) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// What must be true of a place for a write to happen, so that two writers do not undo each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precondition {
    #[default]
    Any,
    /// `if-none-match: *`
    Absent,
    /// `if-match: *`
    Present,
    /// `if-match: "7"`
    Version(u64),
}

impl Precondition {
    /// From the two headers (RFC 9110 section 13.1), as far as they say something about one version. `None`:
    /// they say something else.
    pub fn parse(if_match: Option<&str>, if_none_match: Option<&str>) -> Option<Precondition> {
        match (if_match.map(str::trim), if_none_match.map(str::trim)) {
            (None, None) => Some(Precondition::Any),
            (None, Some("*")) => Some(Precondition::Absent),
            (Some("*"), None) => Some(Precondition::Present),
            (Some(tag), None) => {
                let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
                let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                is_number.then(|| digits.parse().ok().map(Precondition::Version))?
            }
            _ => None,
        }
    }

    /// Whether it holds. `version`: of what lives at the place.
    pub fn holds(self, version: Option<u64>) -> bool {
        match self {
            Precondition::Any => true,
            Precondition::Absent => version.is_none(),
            Precondition::Present => version.is_some(),
            Precondition::Version(wanted) => version == Some(wanted),
        }
    }
}

/// How long an item lives. `asked`: seconds, of the write itself; 0 is for ever. Without it, what the gateway
/// is set to. Anything past [`TTL_SECONDS_MAX`] is no lifetime: `Err`.
pub fn lifetime(asked: Option<u64>, default: Option<Duration>) -> Result<Option<Duration>, TtlFault> {
    match asked {
        None => Ok(default),
        Some(0) => Ok(None),
        Some(seconds) if seconds <= TTL_SECONDS_MAX => Ok(Some(Duration::from_secs(seconds))),
        Some(_) => Err(TtlFault),
    }
}

/// More than any lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ttl_seconds is 0 (for ever) or at most {TTL_SECONDS_MAX}")]
pub struct TtlFault;

/// A hundred years: what is to last longer is to last for ever.
pub const TTL_SECONDS_MAX: u64 = 100 * 366 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_item_lives_until_its_moment_and_not_at_it() {
        let entry = Entry::written(None, 1, Wall(1000), Some(MINUTE));
        assert!(entry.is_live(Wall(60_999)));
        assert!(!entry.is_live(Wall(61_000)));
        assert!(Entry::written(None, 1, Wall(0), None).is_live(Wall(u64::MAX)));
    }

    #[test]
    fn a_replaced_item_keeps_its_birthday_and_one_that_had_expired_does_not() {
        let first = Entry::written(None, 1, Wall(1000), Some(MINUTE));
        let second = Entry::written(Some(&first), 2, Wall(2000), Some(MINUTE));
        assert_eq!(
            (second.created, second.updated, second.expires),
            (Wall(1000), Wall(2000), Some(Wall(62_000)))
        );
        let reborn = Entry::written(Some(&second), 3, Wall(62_000), None);
        assert_eq!((reborn.created, reborn.expires), (Wall(62_000), None));
    }

    #[test]
    fn headers_say_what_must_be_there() {
        let table = [
            (None, None, Some(Precondition::Any)),
            (None, Some("*"), Some(Precondition::Absent)),
            (Some("*"), None, Some(Precondition::Present)),
            (Some("\"7\""), None, Some(Precondition::Version(7))),
            (Some("7"), None, None),
            (Some("\"\""), None, None),
            (Some("\"+7\""), None, None),
            (Some("W/\"7\""), None, None),
            (Some("\"7\", \"8\""), None, None),
            (Some("\"99999999999999999999\""), None, None),
            (None, Some("\"7\""), None),
            (Some("*"), Some("*"), None),
        ];
        for (if_match, if_none_match, expected) in table {
            assert_eq!(
                Precondition::parse(if_match, if_none_match),
                expected,
                "{if_match:?} {if_none_match:?}"
            );
        }
    }

    #[test]
    fn a_precondition_holds_of_exactly_what_it_names() {
        let table = [
            (Precondition::Any, [true, true, true]),
            (Precondition::Absent, [true, false, false]),
            (Precondition::Present, [false, true, true]),
            (Precondition::Version(7), [false, true, false]),
        ];
        for (precondition, expected) in table {
            assert_eq!([None, Some(7), Some(8)].map(|version| precondition.holds(version)), expected);
        }
    }

    #[test]
    fn a_lifetime_is_the_writes_own_else_the_default() {
        let default = Some(MINUTE);
        assert_eq!(lifetime(None, default), Ok(default));
        assert_eq!(lifetime(Some(0), default), Ok(None));
        assert_eq!(lifetime(Some(5), None), Ok(Some(Duration::from_secs(5))));
        assert!(lifetime(Some(TTL_SECONDS_MAX), None).is_ok());
        assert_eq!(lifetime(Some(TTL_SECONDS_MAX + 1), None), Err(TtlFault));
    }
}
