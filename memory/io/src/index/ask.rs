//! A question to the index: which items have any of these words, and which of them the words say most about
//! (Okapi BM25, by tantivy). What is asked is words, never a language: nothing in a question is read as an
//! operator.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use memory_core::place::Namespace;
use memory_core::search::Words;
use memory_core::wall::Wall;
use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::query::{Bm25StatisticsProvider, BooleanQuery, ConstScoreQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Value};
use tantivy::{DocAddress, DocId, Score, Searcher, SegmentReader, TantivyDocument, Term};

use super::shape::{EXPIRES, Shape, VERSION};

/// What is searched for, and which of what is found is wanted.
#[derive(Debug, Clone)]
pub struct Question {
    words: Vec<String>,
    pub namespace: Option<Namespace>,
    /// The best so many are left out: they were told before.
    pub skip: usize,
    pub limit: usize,
}

/// An item that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub score: f32,
    pub path: String,
    pub version: u64,
}

/// What a question found.
#[derive(Debug, Default)]
pub struct Hits {
    pub rows: Vec<Hit>,
    pub has_more: bool,
}

/// All items of a tenant together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    pub items: u64,
    /// Occurrences in all of them.
    pub words: u64,
}

/// By tenant. Held for a look, or for one item's sums.
pub type Totals = Arc<Mutex<HashMap<String, Total>>>;

/// The index as of one moment.
#[derive(Clone)]
pub struct View {
    /// Everything up to this change is in it.
    pub reached: u64,
    pub searcher: Searcher,
    pub shape: Arc<Shape>,
    pub totals: Totals,
}

impl Question {
    /// `None`: there is no word in the text.
    pub fn of(text: &str, namespace: Option<Namespace>, skip: usize, limit: usize) -> Option<Question> {
        let words = Words::of(text).distinct(QUESTION_WORDS_MAX);
        (!words.is_empty()).then_some(Question { words, namespace, skip, limit })
    }
}

impl View {
    pub fn ask(&self, tenant: &str, question: &Question, now: Wall) -> tantivy::Result<Hits> {
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).copied();
        let Some(total) = totals.filter(|total| total.items > 0) else { return Ok(Hits::default()) };
        let asked_for = question.skip + question.limit;
        // One more says whether there are more.
        let best = Best { now: now.0, keep: asked_for + 1 };
        let counts = OfTenant { searcher: &self.searcher, total };
        let query = self.query(tenant, question);
        let found = self.searcher.search_with_statistics_provider(&query, &best, &counts)?;
        let has_more = found.len() > asked_for;
        let wanted = found.into_iter().take(asked_for).skip(question.skip);
        let rows = wanted.map(|ranked| self.hit(&ranked)).collect::<tantivy::Result<_>>()?;
        Ok(Hits { rows, has_more })
    }

    fn query(&self, tenant: &str, question: &Question) -> BooleanQuery {
        let any = question.words.iter().map(|word| -> Box<dyn Query> {
            Box::new(TermQuery::new(self.shape.word_term(tenant, word), IndexRecordOption::WithFreqs))
        });
        let any = BooleanQuery::union(any.collect());
        let Some(namespace) = &question.namespace else { return any };
        let below = self.shape.folder_term(tenant, namespace.as_str());
        let below = Box::new(TermQuery::new(below, IndexRecordOption::Basic));
        let below = ConstScoreQuery::new(below, 0.0);
        BooleanQuery::new(vec![(Occur::Must, Box::new(any)), (Occur::Must, Box::new(below))])
    }

    fn hit(&self, ranked: &Ranked) -> tantivy::Result<Hit> {
        let document: TantivyDocument = self.searcher.doc(ranked.at)?;
        let path = document.get_first(self.shape.path).and_then(|path| path.as_str().map(str::to_owned));
        Ok(Hit { score: ranked.score, path: path.unwrap_or_default(), version: ranked.version })
    }
}

/// How common a word is, in the items of one tenant: what others wrote weighs nothing.
struct OfTenant<'v> {
    searcher: &'v Searcher,
    total: Total,
}

impl Bm25StatisticsProvider for OfTenant<'_> {
    fn total_num_tokens(&self, _: Field) -> tantivy::Result<u64> {
        Ok(self.total.words.max(1))
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.total.items)
    }

    /// The term carries its tenant. Items that are gone are counted until their part of the index is written
    /// anew, so it could be more than all.
    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        Ok(self.searcher.doc_freq(term)?.min(self.total.items))
    }
}

/// One that was found: the heavier before the lighter, of equal weight the newer before the older, so that
/// pages do not depend on where the index keeps what.
#[derive(Debug, PartialEq)]
struct Ranked {
    score: Score,
    version: u64,
    at: DocAddress,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        self.score.total_cmp(&other.score).then(self.version.cmp(&other.version))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Collects the best of what has not expired.
struct Best {
    /// Milliseconds since 1970.
    now: u64,
    keep: usize,
}

struct BestOfSegment {
    now: u64,
    keep: usize,
    segment: u32,
    versions: Column<u64>,
    expiries: Column<u64>,
    /// The least of them on top.
    best: BinaryHeap<Reverse<Ranked>>,
}

impl Collector for Best {
    type Fruit = Vec<Ranked>;
    type Child = BestOfSegment;

    fn for_segment(&self, segment: u32, reader: &SegmentReader) -> tantivy::Result<BestOfSegment> {
        let columns = reader.fast_fields();
        let (versions, expiries) = (columns.u64(VERSION)?, columns.u64(EXPIRES)?);
        let best = BinaryHeap::new();
        Ok(BestOfSegment { now: self.now, keep: self.keep, segment, versions, expiries, best })
    }

    fn requires_scoring(&self) -> bool {
        true
    }

    fn merge_fruits(&self, segments: Vec<Vec<Ranked>>) -> tantivy::Result<Vec<Ranked>> {
        let mut all: Vec<Ranked> = segments.into_iter().flatten().collect();
        all.sort_unstable_by(|left, right| right.cmp(left));
        all.truncate(self.keep);
        Ok(all)
    }
}

impl SegmentCollector for BestOfSegment {
    type Fruit = Vec<Ranked>;

    fn collect(&mut self, doc: DocId, score: Score) {
        let is_full = self.best.len() == self.keep;
        let is_light = self.best.peek().is_some_and(|Reverse(least)| score < least.score);
        if is_full && is_light {
            return;
        }
        // Expired at its very moment, see `Entry::is_live`.
        if self.expiries.first(doc).is_none_or(|expires| expires <= self.now) {
            return;
        }
        let Some(version) = self.versions.first(doc) else { return };
        let ranked = Ranked { score, version, at: DocAddress::new(self.segment, doc) };
        if !is_full {
            self.best.push(Reverse(ranked));
        } else if self.best.peek().is_some_and(|Reverse(least)| ranked > *least) {
            self.best.pop();
            self.best.push(Reverse(ranked));
        }
    }

    fn harvest(self) -> Vec<Ranked> {
        self.best.into_iter().map(|Reverse(ranked)| ranked).collect()
    }
}

/// Words of a question that are looked for.
pub const QUESTION_WORDS_MAX: usize = 16;
