//! `atp.admin.v1.Resources`. Mistakes in what was sent come back as values, all of them with their places;
//! status codes are for calls that could not be made at all.

use std::path::PathBuf;
use std::sync::Arc;

use controlplane_core::diff::unified;
use controlplane_core::intent::Intent;
use controlplane_core::stored::Stored;
use controlplane_core::{check, intent};
use proto_core::parse::{self, Parsed, Source};
use proto_core::wire::atp::admin::v1 as wire;
use proto_rpc::admin::resources_server;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::watch::{self, WATCHERS_MAX};
use super::wire as to_wire;
use crate::metrics::{Metrics, Outcome};
use crate::shutdown::Stopping;
use crate::writer::{Applied, WriteFault, Writer};

/// Serves `atp.admin.v1.Resources`.
#[derive(Debug)]
pub struct ResourcesService {
    writer: Writer,
    metrics: Arc<Metrics>,
    /// The file that is the whole truth, where there is one: then nothing is changed from here.
    file: Option<PathBuf>,
    stopping: Stopping,
    watchers: Arc<Semaphore>,
}

impl ResourcesService {
    pub fn new(writer: Writer, metrics: Arc<Metrics>, file: Option<PathBuf>, stopping: Stopping) -> Self {
        let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
        ResourcesService { writer, metrics, file, stopping, watchers }
    }

    async fn change(&self, intent: Intent, dry_run: bool) -> Result<Applied, WriteFault> {
        if dry_run {
            return self.writer.consider(intent).await;
        }
        let done = self.writer.submit(intent).await;
        self.metrics.applied(match &done {
            Ok(applied) if applied.changes.iter().all(|change| change.verb() == intent::Verb::Unchanged) => {
                Outcome::Unchanged
            }
            Ok(_) => Outcome::Applied,
            Err(WriteFault::Refused(_) | WriteFault::TooLarge(_)) => Outcome::Mistakes,
            Err(_) => Outcome::Failed,
        });
        done
    }

    fn may_change(&self) -> Result<(), Status> {
        let Some(file) = &self.file else { return Ok(()) };
        Err(Status::failed_precondition(format!(
            "resources come from {} here: edit that file, changes are taken within a second",
            file.display()
        )))
    }
}

#[tonic::async_trait]
impl resources_server::Resources for ResourcesService {
    type WatchStream = watch::Events;

    async fn apply(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let wire::ApplyRequest { sources, dry_run } = request.into_inner();
        self.may_change()?;
        let parsed = match read(sources).await? {
            Ok(parsed) => parsed,
            Err(mistakes) => {
                if !dry_run {
                    self.metrics.applied(Outcome::Mistakes);
                }
                return Ok(Response::new(wire::ApplyResponse { mistakes, ..wire::ApplyResponse::default() }));
            }
        };
        let warnings = to_wire::mistakes(&parsed.warnings);
        let response = match self.change(Intent::Apply(parsed.documents), dry_run).await {
            Ok(applied) => wire::ApplyResponse {
                mistakes: Vec::new(),
                warnings,
                changes: to_wire::changes(&applied.changes),
                generation: Some(applied.generation.into()),
            },
            Err(fault) => {
                let mistakes = to_wire::fault(fault)?;
                wire::ApplyResponse { mistakes, warnings, ..wire::ApplyResponse::default() }
            }
        };
        Ok(Response::new(response))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::Resource>, Status> {
        let wire::GetRequest { kind, name } = request.into_inner();
        let (kind, name) = (to_wire::kind(&kind)?, to_wire::name(&name)?);
        let state = self.writer.state();
        let entry = state.stored.get(kind, &name).ok_or_else(|| to_wire::missing(kind, &name))?;
        Ok(Response::new(to_wire::resource(entry)))
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let kind = to_wire::kind_or_all(&request.into_inner().kind)?;
        let state = self.writer.state();
        let wanted =
            state.stored.entries().filter(|entry| kind.is_none_or(|kind| entry.document.kind == kind));
        let resources = wanted.map(|entry| to_wire::resource(entry)).collect();
        let generation = Some(state.generation().into());
        Ok(Response::new(wire::ListResponse { resources, generation }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let wire::DeleteRequest { kind, name, dry_run } = request.into_inner();
        self.may_change()?;
        let intent = Intent::Delete(to_wire::kind(&kind)?, to_wire::name(&name)?);
        let response = match self.change(intent, dry_run).await {
            Ok(applied) => wire::DeleteResponse {
                mistakes: Vec::new(),
                changes: to_wire::changes(&applied.changes),
                generation: Some(applied.generation.into()),
            },
            Err(fault) => {
                wire::DeleteResponse { mistakes: to_wire::fault(fault)?, ..wire::DeleteResponse::default() }
            }
        };
        Ok(Response::new(response))
    }

    async fn diff(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Result<Response<wire::DiffResponse>, Status> {
        let parsed = match read(request.into_inner().sources).await? {
            Ok(parsed) => parsed,
            Err(mistakes) => {
                return Ok(Response::new(wire::DiffResponse { mistakes, ..wire::DiffResponse::default() }));
            }
        };
        let warnings = to_wire::mistakes(&parsed.warnings);
        let response = match self.writer.consider(Intent::Apply(parsed.documents)).await {
            Ok(considered) => {
                let changes = to_wire::changes(&considered.changes);
                let text = blocking(move || unified(&considered.changes)).await?;
                wire::DiffResponse { mistakes: Vec::new(), warnings, changes, text }
            }
            Err(fault) => {
                let mistakes = to_wire::fault(fault)?;
                wire::DiffResponse { mistakes, warnings, ..wire::DiffResponse::default() }
            }
        };
        Ok(Response::new(response))
    }

    async fn validate(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Result<Response<wire::ValidateResponse>, Status> {
        let parsed = match read(request.into_inner().sources).await? {
            Ok(parsed) => parsed,
            Err(mistakes) => {
                return Ok(Response::new(wire::ValidateResponse {
                    mistakes,
                    ..wire::ValidateResponse::default()
                }));
            }
        };
        let warnings = to_wire::mistakes(&parsed.warnings);
        let resources = u32::try_from(parsed.documents.len()).unwrap_or(u32::MAX);
        let checked = blocking(move || check::whole(&Stored::default(), &parsed.documents, true)).await?;
        let mistakes = checked.err().map(|found| to_wire::mistakes(&found)).unwrap_or_default();
        Ok(Response::new(wire::ValidateResponse { mistakes, warnings, resources }))
    }

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let kind = to_wire::kind_or_all(&request.into_inner().kind)?;
        let place = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{WATCHERS_MAX} watches are open, which is all there may be"))
        })?;
        Ok(Response::new(watch::start(self.writer.applied(), kind, place, self.stopping.clone())))
    }
}

/// The documents of a request, or their mistakes.
async fn read(sources: Vec<wire::Source>) -> Result<Result<Parsed, Vec<wire::Mistake>>, Status> {
    if sources.len() > SOURCES_MAX {
        let what = format!("{} sources are more than a request may have ({SOURCES_MAX})", sources.len());
        return Err(Status::invalid_argument(what));
    }
    blocking(move || {
        let sources: Vec<Source<'_>> = sources
            .iter()
            .map(|source| Source {
                file: if source.file.is_empty() { UNNAMED } else { &source.file },
                content: &source.content,
            })
            .collect();
        parse::documents(&sources).map_err(|mistakes| to_wire::mistakes(&mistakes))
    })
    .await
}

/// Runs what takes long for large requests where it delays nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| {
        Status::internal("the work was stopped half way; this is a defect or the end of the process")
    })
}

/// Files of one request: a large folder.
const SOURCES_MAX: usize = 10_000;

/// What a source without a name is called in messages.
const UNNAMED: &str = "request";
