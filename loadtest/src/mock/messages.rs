//! An answer's JSON in Anthropic's dialect: the same words as in OpenAI's, in the shapes of Messages.
//!
//! What it is for: real clients of that dialect, and proxies that translate. A system prompt with a
//! `cache_control` in it counts as written to a cache.

use super::render::{ARGUMENTS_OPEN, ARGUMENTS_SHUT, Shape, put, quoted};

/// The whole answer as one body.
pub(crate) fn whole(shape: &Shape<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, format_args!("{{\"id\":\"{}\",\"type\":\"message\",\"role\":\"assistant\",", shape.id()));
    put(&mut out, format_args!("\"model\":{},\"content\":[", shape.model));
    let mut text = Vec::new();
    (0..shape.text.tokens()).for_each(|index| shape.text.push(index, &mut text));
    let text = String::from_utf8_lossy(&text);
    match &shape.tool {
        None => put(&mut out, format_args!("{{\"type\":\"text\",\"text\":\"{text}\"}}")),
        Some(tool) => {
            let id = shape.identity;
            put(&mut out, format_args!("{{\"type\":\"tool_use\",\"id\":\"toolu_mock{id:016x}\","));
            put(&mut out, format_args!("\"name\":{tool},\"input\":{{\"input\":\"{text}\"}}}}"));
        }
    }
    put(&mut out, format_args!("],\"stop_reason\":\"{}\",\"stop_sequence\":null,", stop_reason(shape)));
    out.extend_from_slice(b"\"usage\":");
    usage(shape, u64::from(shape.text.tokens()), &mut out);
    out.push(b'}');
    out
}

/// The events before the first token.
pub(crate) fn push_opening(shape: &Shape<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    put(out, format_args!("{{\"id\":\"{}\",\"type\":\"message\",\"role\":\"assistant\",", shape.id()));
    put(out, format_args!("\"model\":{},\"content\":[],\"stop_reason\":null,", shape.model));
    out.extend_from_slice(b"\"stop_sequence\":null,\"usage\":");
    usage(shape, 1, out);
    out.extend_from_slice(b"}}\n\nevent: content_block_start\n");
    out.extend_from_slice(b"data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":");
    match &shape.tool {
        None => out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"\"}"),
        Some(tool) => {
            let id = shape.identity;
            put(out, format_args!("{{\"type\":\"tool_use\",\"id\":\"toolu_mock{id:016x}\","));
            put(out, format_args!("\"name\":{tool},\"input\":{{}}}}"));
        }
    }
    out.extend_from_slice(b"}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n");
}

/// The event of one token.
pub(crate) fn push_token(shape: &Shape<'_>, index: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: content_block_delta\n");
    out.extend_from_slice(b"data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":");
    match shape.tool {
        None => {
            out.extend_from_slice(b"{\"type\":\"text_delta\",\"text\":\"");
            shape.text.push(index, out);
        }
        Some(_) => {
            out.extend_from_slice(b"{\"type\":\"input_json_delta\",\"partial_json\":\"");
            if index == 0 {
                out.extend_from_slice(ARGUMENTS_OPEN);
            }
            shape.text.push(index, out);
            if index + 1 == shape.text.tokens() {
                out.extend_from_slice(ARGUMENTS_SHUT);
            }
        }
    }
    out.extend_from_slice(b"\"}}\n\n");
}

/// The events behind the last token, but for the end.
pub(crate) fn push_closing(shape: &Shape<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    );
    out.extend_from_slice(b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":");
    put(out, format_args!("{{\"stop_reason\":\"{}\",\"stop_sequence\":null}},", stop_reason(shape)));
    put(out, format_args!("\"usage\":{{\"output_tokens\":{}}}}}\n\n", shape.text.tokens()));
}

/// What ends a stream.
pub(crate) const STOP: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// The error body for a status.
pub(crate) fn error(status: u16, message: &str) -> Vec<u8> {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    let error = format_args!("{{\"type\":\"{kind}\",\"message\":{}}}", quoted(message));
    format!("{{\"type\":\"error\",\"error\":{error},\"request_id\":\"req_mock\"}}").into_bytes()
}

fn usage(shape: &Shape<'_>, output: u64, out: &mut Vec<u8>) {
    let (written, read) = (shape.cache_tokens, 0);
    let plain = shape.prompt_tokens - written;
    put(out, format_args!("{{\"input_tokens\":{plain},\"cache_creation_input_tokens\":{written},"));
    put(out, format_args!("\"cache_read_input_tokens\":{read},\"output_tokens\":{output}}}"));
}

fn stop_reason(shape: &Shape<'_>) -> &'static str {
    match (shape.cut_short, &shape.tool) {
        (true, _) => "max_tokens",
        (false, Some(_)) => "tool_use",
        (false, None) => "end_turn",
    }
}
