//! `atp.admin.v1.Operations`: how things stand, and how a request would go.

use std::sync::Arc;
use std::time::Duration;

use controlplane_core::fleet::Plane;
use proto_core::model::Kind;
use proto_core::sync::Held;
use proto_core::units::Moment;
use proto_core::wire::atp::admin::v1 as wire;
use proto_rpc::admin::operations_server;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use crate::planes::{Ask, Planes};
use crate::writer::Writer;

/// Serves `atp.admin.v1.Operations`.
#[derive(Debug)]
pub struct OperationsService {
    writer: Writer,
    planes: Arc<Planes>,
}

impl OperationsService {
    pub fn new(writer: Writer, planes: Arc<Planes>) -> OperationsService {
        OperationsService { writer, planes }
    }
}

#[tonic::async_trait]
impl operations_server::Operations for OperationsService {
    async fn status(
        &self,
        _request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        let state = self.writer.state();
        let count = |kind: Kind| u32::try_from(state.stored.of(kind).count()).unwrap_or(u32::MAX);
        let (planes, now) = self.planes.all();
        let newest = state.published.held();
        Ok(Response::new(wire::StatusResponse {
            generation: Some(state.generation().into()),
            adapters: count(Kind::Adapter),
            routes: count(Kind::Route),
            tenants: count(Kind::Tenant),
            data_planes: planes
                .into_iter()
                .map(|(node, plane)| data_plane(node, plane, newest, now))
                .collect(),
            version: env!("CARGO_PKG_VERSION").into(),
        }))
    }

    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::ExplainResponse>, Status> {
        let wire::ExplainRequest { model, task_type, tenant, node } = request.into_inner();
        if [&model, &task_type, &tenant].into_iter().any(|text| text.len() > TEXT_BYTES_MAX) {
            let what = format!("model, task_type and tenant have at most {TEXT_BYTES_MAX} bytes each");
            return Err(Status::invalid_argument(what));
        }
        let newest = self.writer.state().published.held();
        let Some((node, link)) = self.planes.link(&node, newest) else {
            return Err(nobody(&node));
        };
        let (answer, json) = oneshot::channel();
        let asked = timeout(EXPLAIN_MAX, async {
            link.try_send(Ask { model, task_type, tenant, answer }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => busy(&node),
                mpsc::error::TrySendError::Closed(_) => gone(&node),
            })?;
            // The question is dropped where the stream ended, or owes too many answers already.
            json.await.map_err(|_| if link.is_closed() { gone(&node) } else { busy(&node) })
        });
        let json = asked.await.map_err(|_| {
            let seconds = EXPLAIN_MAX.as_secs();
            Status::deadline_exceeded(format!("data plane {node} did not answer within {seconds} s"))
        })??;
        Ok(Response::new(wire::ExplainResponse { node, json }))
    }
}

fn data_plane(node: String, plane: Plane, newest: Held, now: Moment) -> wire::DataPlane {
    let connected = plane.stream.is_some();
    wire::DataPlane {
        node,
        version: plane.version,
        connected,
        serving: plane.held.map(|held| held.generation.into()),
        current: plane.held == Some(newest),
        rejects: plane.rejects,
        connected_seconds: if connected { now.since(plane.since).as_secs() } else { 0 },
    }
}

fn nobody(node: &str) -> Status {
    if node.is_empty() {
        Status::unavailable("no data plane is connected, and only a data plane knows its tables; start one")
    } else {
        Status::not_found(format!(
            "no data plane `{node}` is connected; `atp ctl status` lists those that are"
        ))
    }
}

fn gone(node: &str) -> Status {
    Status::unavailable(format!("data plane {node} went away before it answered; ask again"))
}

fn busy(node: &str) -> Status {
    Status::resource_exhausted(format!("data plane {node} owes too many answers; ask again in a moment"))
}

/// For a data plane to answer: people wait for it, and the answer is a look into a table.
const EXPLAIN_MAX: Duration = Duration::from_secs(5);

/// Of each field of a question: a model name has 128.
const TEXT_BYTES_MAX: usize = 1024;
