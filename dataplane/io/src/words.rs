//! How a fault is told to whom: the caller's dialect, and what the message may name.

use arrayvec::ArrayString;
use bytes::Bytes;
pub use dataplane_core::dialect::errors::Dialect;
use dataplane_core::dialect::errors::{Context, MODELS_NAMED_MAX, Place, reason, status, write};
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::table::{Table, TenantId};
use http::HeaderValue;
use proto_core::model::NAME_BYTES_MAX;

/// What is known of a request by the time something goes wrong with it.
#[derive(Debug, Clone)]
pub struct Telling {
    pub dialect: Dialect,
    request_id: HeaderValue,
    model: ArrayString<NAME_BYTES_MAX>,
    /// Names of adapter and model that answer, where one does.
    answering: Option<(Box<str>, Box<str>)>,
    path: Box<str>,
    models: Vec<Box<str>>,
    models_total: usize,
}

impl Telling {
    pub fn new(dialect: Dialect, request_id: &HeaderValue) -> Telling {
        Telling {
            dialect,
            request_id: request_id.clone(),
            model: ArrayString::new(),
            answering: None,
            path: Box::default(),
            models: Vec::new(),
            models_total: 0,
        }
    }

    /// The path asked for.
    pub fn about_path(mut self, path: &str) -> Telling {
        self.path = path.into();
        self
    }

    /// Where a name was not found: what this caller may ask for instead.
    pub fn on_fault(&mut self, fault: Fault, table: &Table, tenant: TenantId) {
        if fault.kind == Kind::ModelUnknown {
            self.models = table.listed(tenant).take(MODELS_NAMED_MAX).map(|(name, _)| name.into()).collect();
            self.models_total = table.listed(tenant).count();
        }
    }

    /// The model asked for; a name longer than any there is, is left out.
    pub fn set_model(&mut self, model: &str) {
        self.model = ArrayString::from(model).unwrap_or_default();
    }

    /// Who is answering.
    pub fn set_answering(&mut self, adapter: &str, model: &str) {
        self.answering = Some((adapter.into(), model.into()));
    }

    pub fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// Of an answer that is nothing but this fault.
    pub fn status(&self, fault: Fault) -> u16 {
        status(fault, self.dialect)
    }

    /// As the body of an answer of its own.
    pub fn body(&self, fault: Fault) -> Bytes {
        self.written(fault, Place::Body)
    }

    /// Within a stream that has begun.
    pub fn event(&self, fault: Fault) -> Bytes {
        self.written(fault, Place::Stream)
    }

    /// As the reason of a frame that refuses.
    pub fn reason(&self, fault: Fault) -> String {
        self.with_context(|context| reason(fault, context))
    }

    fn written(&self, fault: Fault, place: Place) -> Bytes {
        self.with_context(|context| {
            let mut text = Vec::new();
            write(fault, self.dialect, place, context, &mut text);
            text.into()
        })
    }

    fn with_context<T>(&self, tell: impl FnOnce(&Context<'_>) -> T) -> T {
        let models: Vec<&str> = self.models.iter().map(AsRef::as_ref).collect();
        let (adapter, model_used) = match &self.answering {
            Some((adapter, model)) => (&**adapter, &**model),
            None => ("", ""),
        };
        let context = Context {
            request_id: self.request_id.to_str().unwrap_or_default(),
            model: &self.model,
            models: &models,
            models_total: self.models_total,
            path: &self.path,
            adapter,
            model_used,
        };
        tell(&context)
    }
}
