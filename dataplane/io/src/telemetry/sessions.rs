//! ATP sessions and the frames they are made of: the page's part on them.

use dataplane_state::tally::{Counter, WorkerTally};
use prometheus::proto::MetricType;

use super::metrics::{Page, sum};
use crate::clock;
use crate::serve::mcp;
use crate::worker::Shared;

/// Of all workers.
pub fn of_sessions(page: &mut Page, shared: &Shared, tallies: &[&WorkerTally]) {
    let closed = sum(tallies, |tally| &tally.sessions_closed);
    let open = sum(tallies, |tally| &tally.sessions_opened).saturating_sub(closed);
    page.gauge(
        "atp_sessions_open",
        "ATP sessions now, those that wait for their peer included.",
        open as f64,
    );
    let lines = shared.lines.count_all();
    page.gauge("atp_adapters_attached", "Connections of adapters that dialled in.", lines as f64);
    let now = clock::now();
    let places = shared.tables.peek().map_or(0, |served| -> usize {
        served
            .upstreams
            .iter()
            .filter_map(|upstream| upstream.dialled())
            .map(|dialled| dialled.live(now))
            .sum()
    });
    let what = "Endpoints that adapters registered and that may be asked.";
    page.gauge("atp_adapter_endpoints_registered", what, places as f64);
    let name = "atp_adapter_registrations_total";
    page.family(name, "What became of endpoints that adapters registered.", MetricType::COUNTER);
    for (event, count) in shared.registry.events() {
        page.value(name, &[("event", event)], count as f64);
    }
    let what = "Registered endpoints that the control plane is not told of, for there are too many.";
    page.gauge("atp_adapter_endpoints_untold", what, shared.registry.untold() as f64);
    let what = "Times an adapter said how it is.";
    page.counter("adapter_health_updates_total", what, shared.registry.health());
    // The ends first, as with connections.
    let closed = sum(tallies, |tally| &tally.mcp_closed);
    let live = sum(tallies, |tally| &tally.mcp_opened).saturating_sub(closed);
    let what = "Connections and streams that speak MCP now: WebSockets, and streams of changes.";
    page.gauge("mcp_sessions_active", what, live as f64);
    let exposed = shared.tables.peek().map_or(0, |served| mcp::listing(shared, &served).count());
    page.gauge("tools_exposed_total", "Tools that MCP lists now.", exposed as f64);
    let mut count = |name: &'static str, what: &str, of: fn(&WorkerTally) -> &Counter| {
        page.counter(name, what, sum(tallies, of));
    };
    count("mcp_partial_frames_total", "Pieces of answers told to callers of tools.", |tally| {
        &tally.mcp_partials
    });
    count("mcp_heartbeats_tx", "Heartbeats sent to callers of tools over WebSocket.", |tally| {
        &tally.mcp_heartbeats
    });
    count("atp_sessions_total", "ATP sessions asked for.", |tally| &tally.sessions_opened);
    count("atp_sessions_refused_total", "ATP sessions refused.", |tally| &tally.sessions_refused);
    count("atp_sessions_suspended_total", "Times a session lost its connection and was kept.", |tally| {
        &tally.sessions_suspended
    });
    count("resumes_total", "Sessions taken up again on another connection.", |tally| &tally.sessions_resumed);
    count("atp_messages_received_total", "Messages of sessions, whole.", |tally| &tally.frames_received);
    count("atp_frames_sent_total", "Frames handed to connections.", |tally| &tally.frames_sent);
    count("atp_frames_ignored_total", "Control frames that meant nothing here.", |tally| {
        &tally.frames_ignored
    });
    count("atp_frames_without_room_total", "Frames begun for whose rest there was no room.", |tally| {
        &tally.frames_without_room
    });
    count("ecn_mark_total", "Frames marked while this worker was pressed.", |tally| &tally.ecn_marks);
    count("ecn_reactions_total", "Frames that came marked.", |tally| &tally.ecn_reactions);
    count("agent_status_changes_total", "Times an attached adapter said how much it takes.", |tally| {
        &tally.agent_statuses
    });
}
