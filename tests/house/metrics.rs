//! Names of metrics: what dashboards, alerts and pages ask for must be something the planes really export.

use std::collections::BTreeSet;

use crate::rust::is_word;
use crate::sources::Source;

/// Names used and not exported, `path: name`.
pub fn unknown(users: &[Source], exporters: &[Source]) -> Vec<String> {
    let exported: BTreeSet<&str> = exporters.iter().flat_map(|source| tokens(&source.text)).collect();
    let is_exported = |name: &str| {
        // A histogram is exported under one name and asked for under three.
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        exported.contains(name) || base.is_some_and(|base| exported.contains(base))
    };
    let mut unknown = BTreeSet::new();
    for source in users {
        let wrong = used(source).into_iter().filter(|name| !is_exported(name));
        unknown.extend(wrong.map(|name| format!("{}: {name}", source.path)));
    }
    unknown.into_iter().collect()
}

/// In pages, words with a prefix of ours. In dashboards and alerts also every metric of a query.
fn used(source: &Source) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = tokens(&source.text)
        .filter(|token| OWN_PREFIXES.iter().any(|prefix| token.starts_with(prefix)) && !token.ends_with('_'))
        .map(str::to_owned)
        .collect();
    if source.path.ends_with(".json") || source.path.ends_with(".yaml") || source.path.ends_with(".yml") {
        names.extend(queries(&source.text).flat_map(|query| metrics_of(&query)));
    }
    names
}

/// What stands behind `expr:` or `"expr":`, on its line or in the block below it.
fn queries(text: &str) -> impl Iterator<Item = String> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = lines.iter().enumerate().filter_map(|(at, line)| {
        let line = line.trim_start().trim_start_matches("- ");
        let rest = line.strip_prefix("expr:").or_else(|| line.strip_prefix("\"expr\":"))?;
        Some((at, rest.trim().to_owned()))
    });
    let starts: Vec<(usize, String)> = starts.collect();
    starts.into_iter().map(move |(at, rest)| match &*rest {
        "|" | ">" | "|-" | ">-" => {
            let indent = |line: &str| line.len() - line.trim_start().len();
            let base = indent(lines[at]);
            let block =
                lines[at + 1..].iter().take_while(|line| line.trim().is_empty() || indent(line) > base);
            block.copied().collect::<Vec<_>>().join(" ")
        }
        _ => unquoted(&rest),
    })
}

/// A JSON or YAML string as its text; good enough for queries.
fn unquoted(text: &str) -> String {
    let text = text.trim_end_matches(',');
    text.strip_prefix(['"', '\''])
        .and_then(|rest| rest.strip_suffix(['"', '\'']))
        .unwrap_or(text)
        .replace("\\\"", "\"")
}

/// The metrics of a PromQL query: words that are no label, function, keyword, text, number or duration.
fn metrics_of(query: &str) -> Vec<String> {
    let mut kept = String::new();
    let (mut depth, mut quote) = (0, None);
    for one in query.chars() {
        match (quote, one) {
            (Some(open), _) if one == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(one),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth -= 1,
            (None, _) if depth == 0 => kept.push(one),
            (None, _) => {}
        }
    }
    for keyword in ["by", "without", "on", "ignoring", "group_left", "group_right"] {
        kept = without_labels(&kept, keyword);
    }
    let is_metric = |name: &str, after: &str| {
        !after.trim_start().starts_with('(')
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && !KEYWORDS.contains(&name)
            && !FOREIGN.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut rest = &*kept;
    let mut names = Vec::new();
    while let Some(start) = rest.find(is_metric_char) {
        rest = &rest[start..];
        let end = rest.find(|one| !is_metric_char(one)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        // `:` is for recording rules, `$` for variables of dashboards.
        if is_metric(name, after) && !name.contains([':', '$']) {
            names.push(name.to_owned());
        }
        rest = after;
    }
    names
}

fn is_metric_char(one: char) -> bool {
    is_word(one) || one == ':' || one == '$'
}

/// Drops the list of labels behind a keyword: `sum by (route)`.
fn without_labels(query: &str, keyword: &str) -> String {
    let mut out = String::new();
    let mut rest = query;
    while let Some(at) = rest.find(keyword) {
        let (before, after) = rest.split_at(at);
        let after = &after[keyword.len()..];
        out.push_str(before);
        let stands_alone = !before.ends_with(is_metric_char) && after.trim_start().starts_with('(');
        rest = match after.find(')') {
            Some(end) if stands_alone => &after[end + 1..],
            _ => {
                out.push_str(keyword);
                after
            }
        };
    }
    out.push_str(rest);
    out
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|one: char| !is_word(one)).filter(|token| !token.is_empty())
}

/// Words that begin so are metrics wherever they stand.
const OWN_PREFIXES: [&str; 2] = ["atp_", "gen_ai_"];

const KEYWORDS: [&str; 8] = ["and", "or", "unless", "offset", "bool", "inf", "nan", "up"];

/// Exported by the machine, the process or the cluster, not by us.
const FOREIGN: [&str; 4] = ["process_", "node_", "kube_", "container_"];

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_name_nobody_exports_is_found_in_pages_dashboards_and_alerts() {
        let exporters = [source("t.rs", "count(\"atp_requests_total\"); histogram(\"atp_first_token_ms\")")];
        let users = [
            source(
                "docs/metrics.md",
                "`atp_requests_total`, `atp_first_token_ms_bucket`, `atp_gone_total`, atp_",
            ),
            source(
                "deploy/a.json",
                "\"expr\": \"sum by (route) (rate(requests_total{a=\\\"b\\\"}[5m])) > 0\",",
            ),
            source(
                "deploy/b.yaml",
                "- expr: |\n    up == 0 and atp_first_token_ms_sum\n    / on(a) gone\n  for: 5m\n",
            ),
        ];
        let expected =
            ["deploy/a.json: requests_total", "deploy/b.yaml: gone", "docs/metrics.md: atp_gone_total"];
        assert_eq!(unknown(&users, &exporters), expected);
    }

    #[test]
    fn a_query_is_read_down_to_its_metrics() {
        let query = "histogram_quantile(0.99, sum without (pod) (rate(a_bucket{le=\"x_y\"}[$interval]))) \
                     / ignoring(z) group_left(q) b{job='j'} offset 5m > bool 1e3 \
                     or job:c:rate5m + process_cpu";
        assert_eq!(metrics_of(query), ["a_bucket", "b"]);
    }
}
