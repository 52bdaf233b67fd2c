//! `POST /v1/messages/count_tokens`: how many tokens a request would be. Its own adapter is asked where that
//! knows, which costs nothing and needs no permit; else what earlier requests taught about the model says,
//! and `x-atp-estimated` that it did.

use std::sync::Arc;
use std::time::Duration;

use dataplane_core::bill::estimated_input;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::scan::{Head, Profile};
use dataplane_core::dialect::splice;
use dataplane_core::dialect::words::Words;
use dataplane_core::fault::{Fault, Kind, Retry};
use dataplane_core::route::{self, Wish};
use dataplane_core::table::OfferRow;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use std::future::poll_fn;
use tokio::time::timeout;

use super::answer::AnswerBody;
use super::completions::prompt_bytes;
use super::headers::{
    REQUEST_ID, X_ATP_ADAPTER, X_ATP_ESTIMATED, X_ATP_MODEL, X_REQUEST_ID, for_caller, for_upstream,
};
use super::http::{Arrived, held, identify, refused};
use super::intake::{self, Intake};
use crate::admission::{envelope, may_begin};
use crate::clock;
use crate::served::Hold;
use crate::upstream::{Answer, Call, Path};
use crate::words::{Dialect, Telling};
use crate::worker::Worker;

/// Answers one question.
pub async fn serve(arrived: Arrived) -> Response<AnswerBody> {
    let peer = Arc::clone(&arrived.peer);
    let mut telling = Telling::new(Dialect::Anthropic, &arrived.request_id);
    let outcome = count(arrived, &mut telling).await;
    outcome.unwrap_or_else(|fault| refused(&peer, &telling, fault))
}

async fn count(arrived: Arrived, telling: &mut Telling) -> Result<Response<AnswerBody>, Fault> {
    let Arrived { peer, mut headers, body, request_id, .. } = arrived;
    let worker = &peer.worker;
    let held = held(&peer)?;
    let tenant = identify(&held.table, &headers, &peer)?;
    may_begin(worker, &held, tenant, &envelope(&headers)?)?;
    let Intake { head, body, debt: _debt } = intake::read(&peer, &headers, body, Profile::Messages).await?;
    let name = head.model_name().ok_or(Fault::client(Kind::ModelUnknown))?;
    telling.set_model(name);
    let wish = Wish {
        quality: Wish::BALANCED,
        latency_slo_ms: None,
        cost_max: None,
        input: estimated_input(prompt_bytes(&head)),
        output: 0,
        explore: worker.shared.config.explore,
    };
    let plan = held
        .table
        .find(Some(name), None, tenant)
        .and_then(|route| route::plan(&held.table, route, &wish, worker.random()))
        .inspect_err(|fault| telling.on_fault(*fault, &held.table, tenant))?;
    let offer = held.table.offer(*plan.offers.first().ok_or(Fault::client(Kind::ModelUnknown))?);
    let adapter = held.table.adapter(offer.adapter);
    telling.set_answering(held.table.adapter(offer.owner).name.as_str(), offer.model.as_str());
    // A role is played in words of its own, which are counted with the rest nowhere.
    let mut response = match Words::of(&adapter.kind) {
        Words::Anthropic if offer.role.is_none() => {
            for_upstream(&mut headers, &request_id, &worker.shared.mark);
            let body = splice::for_upstream(&body, &head, &offer.upstream_json);
            asked(worker, &held, offer, headers, body).await?
        }
        _ => estimated(worker, offer, &head),
    };
    let out = response.headers_mut();
    out.insert(X_ATP_MODEL, offer.header.clone());
    out.insert(X_ATP_ADAPTER, held.table.adapter(offer.owner).header.clone());
    out.insert(X_REQUEST_ID, request_id.clone());
    out.insert(REQUEST_ID, request_id);
    Ok(response)
}

/// What the adapter says, as it says it.
async fn asked(
    worker: &Arc<Worker>,
    held: &Hold,
    offer: &OfferRow,
    headers: HeaderMap,
    body: Rope,
) -> Result<Response<AnswerBody>, Fault> {
    let words = Words::Anthropic;
    let (deadline, model, prompt_bytes) = (clock::now() + COUNT_WAIT, offer.hash, body.len());
    let call = Call {
        path: Path::CountTokens,
        headers,
        body,
        streamed: false,
        deadline,
        model,
        prompt_bytes,
        heard: words,
    };
    let upstream = Arc::clone(held.upstream(offer.adapter));
    let answered = async {
        let Answer { status, mut headers, mut body } = upstream.send(worker, call).await?;
        let mut whole = Rope::new();
        while let Some(piece) = poll_fn(|cx| body.poll_data(cx)).await {
            whole.push(piece?);
            if whole.len() > COUNT_BYTES_MAX {
                return Err(Fault::upstream(Kind::Garbled, Retry::Never));
            }
        }
        if let Some(fault) = Fault::of_status(status.as_u16(), None) {
            return Err(fault);
        }
        for_caller(&mut headers);
        let mut response = Response::new(AnswerBody::whole(whole));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    };
    let late = Fault::upstream(Kind::FirstTokenTimeout, Retry::Never);
    timeout(COUNT_WAIT, answered).await.unwrap_or(Err(late))
}

/// What earlier requests to the model say of so many bytes.
fn estimated(worker: &Worker, offer: &OfferRow, head: &Head) -> Response<AnswerBody> {
    let tokens = worker.shared.learned.likely_input(offer.hash, prompt_bytes(head));
    let mut response = Response::new(AnswerBody::text(format!("{{\"input_tokens\":{tokens}}}")));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_ATP_ESTIMATED, HeaderValue::from_static("true"));
    response
}

/// Of an answer that is one number, or says why there is none.
const COUNT_BYTES_MAX: u64 = 64 * 1024;
/// Counting takes a provider milliseconds.
const COUNT_WAIT: Duration = Duration::from_secs(10);
