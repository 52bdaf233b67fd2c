//! One connection to Redis: made when it is needed, given up after a failure, every wait with a deadline.
//! What Redis says of itself is looked at each time one is made, so that a server that would lose what it
//! acknowledged, or is a copy of another, is never written to.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use proto_core::units::Moment;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ErrorKind, FromRedisValue, RedisError, Script, ScriptInvocation, ServerErrorKind,
};
use tokio::sync::Mutex;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::keys::{FORMAT, FORMAT_KEY};
use super::server::Server;
use crate::clock;
use crate::store::StoreFault;

/// A connection that is shared by whoever calls, each waiting for its own answer.
#[derive(Debug)]
pub struct Link {
    server: Arc<Server>,
    state: Mutex<State>,
    /// By what went wrong.
    errors: IntCounterVec,
}

#[derive(Debug)]
enum State {
    Open {
        number: u64,
        connection: MultiplexedConnection,
    },
    /// Nobody tries again before [`RETRY_PAUSE`] is over, so that callers do not queue for a server that is
    /// gone.
    Closed {
        number: u64,
        last: Option<(Moment, StoreFault)>,
    },
}

/// Why a call has no answer.
enum Failed {
    /// The connection ended; another may do.
    Lost(StoreFault),
    Told(StoreFault),
}

impl Failed {
    fn fault(self) -> StoreFault {
        let (Failed::Lost(fault) | Failed::Told(fault)) = self;
        fault
    }
}

impl Link {
    pub fn new(server: Arc<Server>, errors: IntCounterVec) -> Link {
        Link { server, state: Mutex::new(State::Closed { number: 0, last: None }), errors }
    }

    /// Runs a script that only reads; once more where the connection had ended meanwhile.
    pub async fn read<T: FromRedisValue>(
        &self,
        script: &Script,
        fill: impl Fn(&mut ScriptInvocation<'_>),
    ) -> Result<T, StoreFault> {
        match self.try_call(script, &fill).await {
            Err(Failed::Lost(_)) => self.try_call(script, &fill).await.map_err(Failed::fault),
            done => done.map_err(Failed::fault),
        }
    }

    /// Runs a script, once. After [`StoreFault::Unreachable`] nothing of it happened; after another fault
    /// nobody knows.
    pub async fn call<T: FromRedisValue>(
        &self,
        script: &Script,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, StoreFault> {
        self.try_call(script, fill).await.map_err(Failed::fault)
    }

    /// Runs one command that only reads, as [`Link::read`] does.
    pub async fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, StoreFault> {
        match self.try_ask(command).await {
            Err(Failed::Lost(_)) => self.try_ask(command).await.map_err(Failed::fault),
            done => done.map_err(Failed::fault),
        }
    }

    async fn try_call<T: FromRedisValue>(
        &self,
        script: &Script,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, Failed> {
        let (number, mut connection) = self.connection().await.map_err(Failed::Told)?;
        let mut invocation = script.prepare_invoke();
        fill(&mut invocation);
        self.answered(number, timeout(CALL_WAIT, invocation.invoke_async(&mut connection)).await).await
    }

    async fn try_ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, Failed> {
        let (number, mut connection) = self.connection().await.map_err(Failed::Told)?;
        self.answered(number, timeout(CALL_WAIT, command.query_async(&mut connection)).await).await
    }

    /// Counts a failure, and gives up its connection: one that is made anew is checked anew, and a primary
    /// may have become a replica.
    async fn answered<T>(
        &self,
        number: u64,
        answer: Result<Result<T, RedisError>, Elapsed>,
    ) -> Result<T, Failed> {
        let (kind, failed) = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Err(_) => ("late", Failed::Told(StoreFault::Late)),
            Ok(Err(error)) if error.is_timeout() => ("late", Failed::Told(StoreFault::Late)),
            Ok(Err(error)) if error.is_io_error() => ("lost", Failed::Lost(self.unusable(told(&error)))),
            Ok(Err(error)) => ("refused", Failed::Told(self.unusable(told(&error)))),
        };
        self.errors.with_label_values(&[kind]).inc();
        let mut state = self.state.lock().await;
        // Unless another was made meanwhile.
        if matches!(&*state, State::Open { number: open, .. } if *open == number) {
            *state = State::Closed { number, last: None };
        }
        Err(failed)
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), StoreFault> {
        let Ok(mut state) = timeout(CALL_WAIT, self.state.lock()).await else {
            return Err(self.unreachable("another caller is still connecting"));
        };
        let number = match &*state {
            State::Open { number, connection } => return Ok((*number, connection.clone())),
            State::Closed { last: Some((at, fault)), .. } if clock::now().since(*at) < RETRY_PAUSE => {
                return Err(fault.clone());
            }
            State::Closed { number, .. } => number + 1,
        };
        match self.connect().await {
            Ok(connection) => {
                *state = State::Open { number, connection: connection.clone() };
                Ok((number, connection))
            }
            Err(fault) => {
                tracing::warn!(%fault, "no connection");
                *state = State::Closed { number, last: Some((clock::now(), fault.clone())) };
                Err(fault)
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, StoreFault> {
        let client = self.server.client()?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WAIT))
            .set_response_timeout(Some(CALL_WAIT))
            .set_concurrency_limit(CALLS_MAX);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let connected = match timeout(CONNECT_WAIT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.errors.with_label_values(&["connect"]).inc();
                return Err(self.unreachable("it did not take a connection in time"));
            }
        };
        let checked = match connected {
            Ok(mut connection) => match timeout(CALL_WAIT, self.check(&mut connection)).await {
                Ok(checked) => checked?.map(|()| connection),
                Err(_) => {
                    self.errors.with_label_values(&["connect"]).inc();
                    return Err(self.unreachable("it took a connection and did not answer in time"));
                }
            },
            Err(error) => Err(error),
        };
        checked.map_err(|error| {
            self.errors.with_label_values(&["connect"]).inc();
            let why = told(&error);
            let is_gone = error.is_io_error()
                || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::BusyLoading));
            if is_gone { self.unreachable(&why) } else { self.unusable(why) }
        })
    }

    /// Whether this server may be written to.
    async fn check(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Result<(), RedisError>, StoreFault> {
        // One after the other: the error of a pipeline does not say what it was.
        let mut info = Vec::new();
        for part in ["replication", "memory", "persistence"] {
            match redis::cmd("INFO").arg(part).query_async::<String>(connection).await {
                Ok(told) => info.push(told),
                Err(error) => return Ok(Err(error)),
            }
        }
        let [replication, memory, persistence] = &info[..] else { unreachable!("three were asked for") };
        let format = match format_of(connection).await {
            Ok(format) => format,
            Err(error) => return Ok(Err(error)),
        };
        if said(replication, "role") == Some("slave") {
            let why = "it is a replica; name the primary, or reads and writes would not be of one state";
            return Err(self.unusable(why.into()));
        }
        if let Some(policy) = said(memory, "maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))
        {
            let why = format!(
                "its maxmemory-policy is {policy}: it would throw away what was acknowledged; set noeviction"
            );
            return Err(self.unusable(why));
        }
        if said(persistence, "aof_enabled") == Some("0") {
            tracing::warn!(
                path = self.server.shown(),
                "this Redis keeps no append-only file: what is acknowledged is lost with its process; set \
                 appendonly yes and appendfsync always"
            );
        }
        if format != FORMAT {
            return Err(StoreFault::Format {
                path: self.server.shown().to_owned(),
                found: format,
                expected: FORMAT,
            });
        }
        Ok(Ok(()))
    }

    /// Of the newest connection; another one may lead to a server that forgot something.
    pub async fn number(&self) -> u64 {
        let (State::Open { number, .. } | State::Closed { number, .. }) = *self.state.lock().await;
        number
    }

    pub fn name(&self) -> &str {
        self.server.shown()
    }

    fn unreachable(&self, why: &str) -> StoreFault {
        StoreFault::Unreachable { path: self.server.shown().to_owned(), why: why.into() }
    }

    pub fn unusable(&self, why: String) -> StoreFault {
        StoreFault::Unusable { path: self.server.shown().to_owned(), why }
    }
}

/// What went wrong, without any word that a caller put: an error of Redis' may repeat what it was sent.
fn told(error: &RedisError) -> String {
    let hint = match error.code() {
        Some("OOM") => ": it is out of memory; raise maxmemory, or delete something",
        Some("MISCONF") => ": it cannot write to its disk",
        Some("READONLY") => ": it became a replica",
        Some("WRONGPASS") => ": it wants another user or password, see REDIS_PASSWORD_FILE",
        Some("NOPERM") => ": its ACL forbids this user what the gateway needs",
        _ => "",
    };
    let wants_password = "Redis wants another user or password, see REDIS_PASSWORD_FILE";
    match error.code() {
        // Where a database is chosen first, the refusal is that of the choice.
        _ if error.to_string().contains("refused to switch database") => {
            format!("Redis refused the database: there may be no such one, or {wants_password}")
        }
        Some("NOAUTH") => wants_password.into(),
        Some(code) => format!("Redis answered {code}{hint}"),
        None if error.kind() == ErrorKind::AuthenticationFailed => wants_password.into(),
        None => error.category().to_owned(),
    }
}

/// One line of what INFO tells.
fn said<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// What it is written in; said by whoever comes first. Looked at before: a Redis that is full takes no word,
/// and is still to be read and emptied.
async fn format_of(connection: &mut MultiplexedConnection) -> Result<u64, RedisError> {
    let look = redis::cmd("GET").arg(FORMAT_KEY).to_owned();
    if let Some(format) = look.query_async::<Option<u64>>(connection).await? {
        return Ok(format);
    }
    redis::cmd("SETNX").arg(FORMAT_KEY).arg(FORMAT).query_async::<()>(connection).await?;
    look.query_async(connection).await
}

/// For a connection, its TLS included: in one data centre it takes a millisecond.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// For the answer to one call. A Redis that syncs its file at each write takes as long as its disk.
pub const CALL_WAIT: Duration = Duration::from_secs(2);
/// Between two tries to connect: callers meanwhile are told at once.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Under way on one connection; more wait for those to be answered.
const CALLS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_of_itself_is_found_by_its_whole_name() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n";
        assert_eq!(said(info, "role"), Some("master"));
        assert_eq!((said(info, "rol"), said(info, "slaves")), (None, None));
    }

    #[test]
    fn an_error_is_told_without_what_redis_repeats_of_a_call() {
        let error = redis::make_extension_error("OOM".into(), Some("with args: secret plan".into()));
        let told = told(&error);
        assert!(told.contains("OOM") && told.contains("maxmemory") && !told.contains("secret"), "{told}");
    }
}
