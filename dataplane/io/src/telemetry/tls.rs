//! Handshakes behind TLS and the files they are made with: the page's part on them.

use prometheus::proto::MetricType;

use super::metrics::Page;
use crate::serve::quic;
use crate::tls::ServerSide;

pub fn of_listeners(page: &mut Page, side: &ServerSide) {
    let counts = &side.counts;
    let name = "atp_tls_handshakes_total";
    page.family(name, "Handshakes over TCP that came to their end, by kind.", MetricType::COUNTER);
    for (kind, count) in counts.handshakes() {
        page.value(name, &[("kind", kind)], count as f64);
    }
    let name = "atp_tls_refused_total";
    page.family(name, "Handshakes refused, by reason.", MetricType::COUNTER);
    for (reason, count) in counts.refused() {
        page.value(name, &[("reason", reason)], count as f64);
    }
    let (taken, refused) = counts.reloads();
    page.counter("atp_tls_reloads_total", "Changed TLS files put into use.", taken);
    page.counter("atp_tls_reloads_refused_total", "Changed TLS files that could not be used.", refused);
    let what = "Connections ended because their certificate is trusted no more.";
    page.counter("atp_tls_retired_total", what, counts.retired());
}

/// What was asked of QUIC's port and not, or not at once, let in.
pub fn of_quic(page: &mut Page, counts: &quic::Counts) {
    let what = "First datagrams over QUIC answered with a Retry: their address was not proved yet.";
    page.counter("atp_quic_retries_total", what, counts.retries());
    let name = "atp_quic_refused_total";
    page.family(
        name,
        "Connections over QUIC refused before their handshake, by reason.",
        MetricType::COUNTER,
    );
    for (reason, count) in counts.refused() {
        page.value(name, &[("reason", reason)], count as f64);
    }
}
