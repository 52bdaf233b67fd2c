//! One document: kind, name and spec to a resource, and the places a set may blame later. Never looks at a
//! second one.

use super::fields::{Field, Reader};
use super::tree::{Mark, Node};
use super::{Document, Place, adapter, json, route, tenant};
use crate::model::{Kind, Name, Resource};

/// Reads one document, or says in `reader` why it is none.
pub fn read(reader: &Reader, node: &Node) -> Option<Document> {
    let fields = reader.root(node).fields(&["kind", "name", "spec"])?;
    let kind =
        fields.required("kind").and_then(|kind| kind.one_of(&Kind::ALL.map(|kind| (kind.as_str(), kind))));
    let name_field = fields.required("name");
    let name = name_field.as_ref().and_then(|name| name.parsed(Name::resource));
    let spec = fields.required("spec");
    // Everything is read before anything is given up, so that all mistakes of the document are told.
    let (kind, spec) = (kind?, spec?);
    let resource = match kind {
        Kind::Adapter => adapter::read(&spec, name).map(Resource::Adapter),
        Kind::Route => route::read(&spec, name).map(Resource::Route),
        Kind::Tenant => tenant::read(&spec, name).map(Resource::Tenant),
    }?;
    let marks = Marks::of(kind, name_field.as_ref().map_or(node.mark, Field::mark), node);
    let name = resource.name().clone();
    Some(Document {
        kind,
        name,
        place: reader.place(node.mark),
        json: json::canonical(node),
        resource,
        marks,
    })
}

/// The places in a document that a set may blame: names and references.
#[derive(Debug, Clone, PartialEq)]
pub struct Marks(Vec<(Box<str>, Mark)>);

impl Marks {
    fn of(kind: Kind, name: Mark, node: &Node) -> Marks {
        let mut marks = vec![("name".into(), name)];
        let spec = node.child("spec");
        let elements = |field: &str| match spec.and_then(|spec| spec.child(field)).map(|list| &list.value) {
            Some(super::tree::Value::List(items)) => items.as_slice(),
            _ => &[],
        };
        match kind {
            Kind::Adapter => {}
            Kind::Route => {
                let tenant =
                    spec.and_then(|spec| spec.child("match")).and_then(|matches| matches.child("tenant"));
                marks.extend(tenant.map(|tenant| ("spec.match.tenant".into(), tenant.mark)));
                for (at, candidate) in elements("candidates").iter().enumerate() {
                    for field in ["adapter", "model"] {
                        let mark = candidate.child(field).map_or(candidate.mark, |node| node.mark);
                        marks.push((format!("spec.candidates[{at}].{field}").into(), mark));
                    }
                }
            }
            Kind::Tenant => {
                let keys = elements("keys").iter().enumerate();
                marks.extend(keys.map(|(at, key)| (format!("spec.keys[{at}]").into(), key.mark)));
            }
        }
        Marks(marks)
    }
}

impl Document {
    /// The place of a path inside this document, or of the document where the path is not known.
    pub fn place_of(&self, path: &str) -> Place {
        let mark = self.marks.0.iter().find(|(known, _)| &**known == path).map(|(_, mark)| *mark);
        match mark {
            Some(Mark { line, column }) => Place { file: self.place.file.clone(), line, column },
            None => self.place.clone(),
        }
    }
}
