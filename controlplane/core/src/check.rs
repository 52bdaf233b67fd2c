//! Whether stored resources and wanted ones fit together. Every rule is in `proto_core`, so a data plane that
//! takes the set judges by the same ones; here mistakes only get the place an operator can go to.

use std::collections::BTreeSet;

use proto_core::model::Set;
use proto_core::parse::{self, Document, Mistake};

use crate::stored::{Key, STORED_FILE, Stored};

/// The set of `documents` over what is stored (`is_whole`: of the documents alone), or every mistake.
pub fn whole(stored: &Stored, documents: &[Document], is_whole: bool) -> Result<Set, Vec<Mistake>> {
    let named: BTreeSet<Key> = documents.iter().map(|one| (one.kind, one.name.clone())).collect();
    // Wanted ones first: where two clash, the mistake is told of what the operator has in hand.
    let mut all = documents.to_vec();
    if !is_whole {
        let others = stored.entries().filter(|entry| !named.contains(&entry.key()));
        all.extend(others.map(|entry| entry.document.clone()));
    }
    parse::set(&all).map_err(|mistakes| mistakes.into_iter().map(unplaced_where_stored).collect())
}

/// What is stored has no line in any file: the message names the resource, the place would mislead.
fn unplaced_where_stored(mut mistake: Mistake) -> Mistake {
    mistake.place = mistake.place.filter(|place| *place.file != *STORED_FILE);
    mistake
}
