//! Whether stored resources and wanted ones fit together. Every rule is in `proto_core`, so a data plane that
//! takes the set judges by the same ones; here mistakes only get the place an operator can go to.

use std::collections::BTreeMap;

use proto_core::model::{Set, SetMistake};
use proto_core::parse::fields::MISTAKES_MAX;
use proto_core::parse::{Document, Mistake};

use crate::stored::{Key, Stored};

/// The set of `documents` over what is stored (`is_whole`: of the documents alone), or every mistake.
///
/// No two documents have the same kind and name: reading them sees to it.
pub fn whole(stored: &Stored, documents: &[Document], is_whole: bool) -> Result<Set, Vec<Mistake>> {
    let named: BTreeMap<Key, &Document> =
        documents.iter().map(|document| ((document.kind, document.name.clone()), document)).collect();
    let others = stored.entries().filter(|entry| !is_whole && !named.contains_key(&entry.key()));
    // Wanted ones first: where two clash, the mistake is told of what the operator has in hand.
    let wanted = documents.iter().map(|document| document.resource.clone());
    let all = wanted.chain(others.map(|entry| entry.document.resource.clone()));
    Set::build(all).map_err(|wrong| told(wrong, &named))
}

/// One deleted adapter may be a mistake of a hundred thousand routes: as many are told as anybody reads.
fn told(wrong: Vec<SetMistake>, named: &BTreeMap<Key, &Document>) -> Vec<Mistake> {
    let more = wrong.len().saturating_sub(MISTAKES_MAX);
    let placed = |SetMistake { kind, name, path, what }: SetMistake| {
        let what = format!("{what} (of {kind} {name})");
        // What is stored has no line in any file.
        let place = named.get(&(kind, name)).map(|document| document.place_of(&path));
        Mistake { place, path, what }
    };
    let mut mistakes: Vec<Mistake> = wrong.into_iter().take(MISTAKES_MAX).map(placed).collect();
    if more > 0 {
        let what = format!("there are {more} more mistakes; mend these first");
        mistakes.push(Mistake { place: None, path: String::new(), what });
    }
    mistakes
}
