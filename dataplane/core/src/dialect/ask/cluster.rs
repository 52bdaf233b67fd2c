//! What kind of task a prompt looks like, by the words in it. A hint for learning, never for routing alone.

/// The cluster of a prompt, or `None` where nothing in it tells. Keywords count in any case and anywhere,
/// also inside words; where several kinds match, the first of `code`, `summarize`, `extract`, `classify`,
/// `json_struct` wins.
pub fn cluster_hint(prompt: &str) -> Option<&'static str> {
    let bytes = prompt.as_bytes();
    let mut best = CLUSTERS.len();
    let mut has_struct = false;
    for at in 0..bytes.len() {
        let rest = &bytes[at..];
        let first = rest[0].to_ascii_lowercase();
        if first == b'{' && !has_struct {
            has_struct = opens_struct(rest);
        }
        // Nearly every byte begins no keyword; one comparison says so.
        if !FIRSTS.contains(&first) {
            continue;
        }
        for (rank, (_, keywords)) in CLUSTERS[..best].iter().enumerate() {
            if keywords.iter().any(|keyword| starts_with(rest, keyword)) {
                best = rank;
                break;
            }
        }
        if best == 0 {
            break;
        }
    }
    match CLUSTERS.get(best) {
        Some((name, _)) => Some(name),
        None => has_struct.then_some("json_struct"),
    }
}

fn starts_with(text: &[u8], keyword: &str) -> bool {
    text.get(..keyword.len()).is_some_and(|start| start.eq_ignore_ascii_case(keyword.as_bytes()))
}

/// `{ word :`, with any white space between.
fn opens_struct(text: &[u8]) -> bool {
    let word = text[1..].trim_ascii_start();
    let length = word.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    length > 0 && word[length..].trim_ascii_start().first() == Some(&b':')
}

/// In lower case; most telling first.
const CLUSTERS: [(&str, &[&str]); 4] = [
    ("code", &["def ", "class ", "import ", "function", "bug"]),
    ("summarize", &["summarize", "tl;dr", "brief summary"]),
    ("extract", &["extract", "pull out", "list the"]),
    ("classify", &["categorize", "classify", "label"]),
];

/// First letters of the keywords.
const FIRSTS: &[u8] = b"dcifbstepl";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_tells_its_cluster_in_any_case_and_place() {
        for (name, keywords) in CLUSTERS {
            for keyword in keywords {
                for prompt in
                    [format!("x {keyword}"), format!("é{}", keyword.to_uppercase()), keyword.to_string()]
                {
                    assert_eq!(cluster_hint(&prompt), Some(name), "{prompt}");
                }
            }
        }
    }

    #[test]
    fn the_first_kind_in_order_wins_wherever_its_word_stands() {
        assert_eq!(cluster_hint("label and extract, then summarize this bug"), Some("code"));
        assert_eq!(cluster_hint("Classify this, then TL;DR"), Some("summarize"));
        assert_eq!(cluster_hint("summarize, then extract and label"), Some("summarize"));
        assert_eq!(cluster_hint("{ name : string } label"), Some("classify"));
    }

    #[test]
    fn a_brace_a_word_and_a_colon_are_a_structure() {
        for prompt in ["{a:1}", "fill { name  :", "{{x:1}", "{\n key_1\t: 2}"] {
            assert_eq!(cluster_hint(prompt), Some("json_struct"), "{prompt}");
        }
        for prompt in ["", "hello", "{}", "{:", "{a b:", "a:", "{", "{a", "}a:{"] {
            assert_eq!(cluster_hint(prompt), None, "{prompt}");
        }
    }

    #[test]
    fn a_hundred_thousand_braces_take_no_longer_than_their_number() {
        assert_eq!(cluster_hint(&"{ ".repeat(50_000)), None);
    }
}
