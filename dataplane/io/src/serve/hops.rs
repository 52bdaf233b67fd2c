//! Which proxies a request came by, in its `via` (RFC 9110 section 7.6.3): each data plane adds a mark of its
//! own, and refuses a request that has it already, or that of too many others. So adapters that are proxies
//! themselves may stand in a chain, and a circle of them answers instead of asking until something is full.

use std::hash::{BuildHasher, Hasher, RandomState};

use dataplane_core::fault::{Fault, Kind};
use http::header::VIA;
use http::{HeaderMap, HeaderValue};

/// A data plane's own, another one with each start. It says nothing of the machine.
#[derive(Debug)]
pub struct Mark(HeaderValue);

impl Mark {
    pub fn new() -> Mark {
        let text = format!("1.1 {BY}{:016x}", RandomState::new().build_hasher().finish());
        Mark(HeaderValue::try_from(text).expect("letters, digits and a blank"))
    }

    /// Refuses a request that comes by again, or by one proxy too many.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let mut hops = 0;
        for entry in headers.get_all(VIA).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        {
            let entry = entry.trim_ascii();
            let is_ours = entry.strip_prefix(b"1.1 ").is_some_and(|by| by.starts_with(BY.as_bytes()));
            hops += usize::from(is_ours);
            if hops >= HOPS_MAX || entry == self.0.as_bytes() {
                return Err(Fault::client(Kind::Loop));
            }
        }
        Ok(())
    }

    /// A request that goes on has come by here: behind the others, as one line.
    pub fn put(&self, headers: &mut HeaderMap) {
        let mut before = headers.get_all(VIA).iter().map(HeaderValue::as_bytes).peekable();
        if before.peek().is_none() {
            headers.insert(VIA, self.0.clone());
            return;
        }
        let mut all = before.collect::<Vec<_>>();
        all.push(self.0.as_bytes());
        let line =
            HeaderValue::try_from(all.join(&b", "[..])).expect("what stood in headers may stand in one");
        headers.insert(VIA, line);
    }
}

impl Default for Mark {
    fn default() -> Mark {
        Mark::new()
    }
}

const BY: &str = "atp-";
/// A request comes by so many data planes. A chain that somebody meant has a few; each keeps a connection, a
/// permit and a place in the windows of all before it.
pub const HOPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(marks: &[&Mark]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        marks.iter().for_each(|mark| mark.put(&mut headers));
        headers
    }

    #[test]
    fn a_request_that_has_come_by_here_is_refused_and_by_others_is_not() {
        let (own, other) = (Mark::new(), Mark::new());
        assert_eq!(own.check(&passed(&[])), Ok(()));
        assert_eq!(own.check(&passed(&[&other])), Ok(()));
        for marks in [&[&own][..], &[&other, &own], &[&own, &other]] {
            assert_eq!(own.check(&passed(marks)), Err(Fault::client(Kind::Loop)));
        }
    }

    #[test]
    fn as_many_proxies_as_a_request_may_come_by_and_one_more() {
        let marks: Vec<Mark> = (0..HOPS_MAX).map(|_| Mark::new()).collect();
        let marks: Vec<&Mark> = marks.iter().collect();
        assert_eq!(Mark::new().check(&passed(&marks[1..])), Ok(()));
        assert_eq!(Mark::new().check(&passed(&marks)), Err(Fault::client(Kind::Loop)));
    }

    #[test]
    fn other_peoples_proxies_stay_in_their_order_and_do_not_count() {
        let mut headers = HeaderMap::new();
        for line in ["1.0 fred, 1.1 atp.example.com (not one of ours, by the way)", "2 gate"] {
            headers.append(VIA, HeaderValue::from_static(line));
        }
        let own = Mark::new();
        assert_eq!(own.check(&headers), Ok(()));
        own.put(&mut headers);
        let lines: Vec<_> = headers.get_all(VIA).iter().map(|line| line.to_str().unwrap()).collect();
        let [line] = lines[..] else { panic!("{lines:?}") };
        let (before, last) = line.rsplit_once(", ").unwrap();
        assert_eq!(before, "1.0 fred, 1.1 atp.example.com (not one of ours, by the way), 2 gate");
        assert_eq!(last, own.0.to_str().unwrap());
    }

    #[test]
    fn a_line_full_of_commas_is_no_trouble() {
        let mut headers = HeaderMap::new();
        headers.insert(VIA, HeaderValue::try_from(",".repeat(8000)).unwrap());
        assert_eq!(Mark::new().check(&headers), Ok(()));
    }
}
