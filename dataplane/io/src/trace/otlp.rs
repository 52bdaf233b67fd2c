//! Spans as OTLP has them (opentelemetry-proto 1.x: the same names and numbers, only what is sent), and the
//! one call that takes them. Written here and not generated: ten messages against a tree of packages.

use std::collections::HashMap;

use bytes::Bytes;
use prost::{Message, Oneof};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::span::{Kind, Span, Value};
use crate::clock;

#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<WireSpan>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct WireSpan {
    #[prost(bytes = "bytes", tag = "1")]
    pub trace_id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub span_id: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub parent_span_id: Bytes,
    #[prost(string, tag = "5")]
    pub name: String,
    /// 1 internal, 2 server, 3 client.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<WireStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct WireStatus {
    #[prost(string, tag = "2")]
    pub message: String,
    /// 2: an error.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 2, 3")]
    pub value: Option<Any>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(int64, tag = "3")]
    Count(i64),
}

/// One call's worth of spans. `resource`: who they are of.
pub fn request(resource: &[(String, String)], spans: Vec<Span>) -> ExportRequest {
    let text = |(key, value): &(String, String)| pair(key, Any::Text(value.clone()));
    let scope = Scope { name: "atp".into(), version: env!("CARGO_PKG_VERSION").into() };
    // Of the monotonic clock's zero: one difference for the whole batch.
    let zero = clock::unix_nanos().saturating_sub(clock::now().0);
    let spans = spans.into_iter().map(|span| wire(span, zero)).collect();
    let resource = Resource { attributes: resource.iter().map(text).collect() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }
}

fn wire(span: Span, zero: u64) -> WireSpan {
    let attributes = span.attributes.into_iter().map(|(key, value)| {
        let value = match value {
            Value::Text(text) => Any::Text(text.into()),
            Value::Flag(flag) => Any::Flag(flag),
            Value::Change(change) => Any::Count(change),
            Value::Count(count) => Any::Count(i64::try_from(count).unwrap_or(i64::MAX)),
        };
        pair(key, value)
    });
    let mut attributes: Vec<KeyValue> = attributes.collect();
    if let Some(error) = span.error {
        attributes.push(pair("error.type", Any::Text(error.into())));
    }
    let id = |id: u64| Bytes::copy_from_slice(&id.to_be_bytes());
    WireSpan {
        trace_id: Bytes::copy_from_slice(&span.trace.to_be_bytes()),
        span_id: id(span.id),
        parent_span_id: if span.parent == 0 { Bytes::new() } else { id(span.parent) },
        name: span.name.into(),
        kind: match span.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: zero.saturating_add(span.began.0),
        end_time_unix_nano: zero.saturating_add(span.ended.0),
        attributes,
        status: span.error.map(|error| WireStatus { message: error.into(), code: 2 }),
    }
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) }
}

/// Makes the call.
pub async fn send(
    channel: Channel,
    headers: &HashMap<String, String>,
    message: ExportRequest,
) -> Result<ExportResponse, Status> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        let name = name.parse::<AsciiMetadataKey>().map_err(|_| Status::internal("a header has no name"))?;
        let mut value =
            value.parse::<AsciiMetadataValue>().map_err(|_| Status::internal("a header has no value"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert(name, value);
    }
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    Ok(client.unary(request, path, ProstCodec::default()).await?.into_inner())
}
