#!/usr/bin/env bash
# Handshakes beside nginx: how many a second and the server's processor time for each, full and resumed, without
# and with a client certificate, in interleaved rounds. Wants nginx, taskset, and release builds of atp and
# loadtest:  cargo build --release -p cli -p loadtest && benches/tls.sh [ROUNDS] [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
ROUNDS=${1:-3} SECONDS_EACH=${2:-4}
BIN=$PWD/target/release FOLDER=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$FOLDER"' EXIT
cd "$FOLDER"
"$BIN/atp" cert dev --out certs >/dev/null
cat >resources.yaml <<'END'
kind: Adapter
name: echo
spec: { kind: echo, models: [ { name: echo } ] }
END
cat >dataplane.yaml <<'END'
listen: { http: "127.0.0.1:19443", admin: "127.0.0.1:19445" }
tls:
  listen: 127.0.0.1:19444
  cert: certs/server.pem
  key: certs/server.key
  client_ca: certs/ca.pem
  client_auth: optional
workers: 1
resources: resources.yaml
END
cat >nginx.conf <<END
daemon off;
worker_processes 1;
pid $FOLDER/nginx.pid;
error_log $FOLDER/nginx.log;
events { worker_connections 1024; }
http {
    access_log off;
    server {
        listen 127.0.0.1:19544 ssl;
        server_name localhost;
        ssl_protocols TLSv1.3;
        ssl_certificate $FOLDER/certs/server.pem;
        ssl_certificate_key $FOLDER/certs/server.key;
        ssl_client_certificate $FOLDER/certs/ca.pem;
        ssl_verify_client optional;
        ssl_session_cache shared:sessions:10m;
        ssl_session_tickets off;
        location / { return 200 "ok"; }
    }
}
END
ATP_DATA_DIR=$FOLDER/data taskset -c 0 "$BIN/atp" dataplane --config dataplane.yaml >atp.log 2>&1 &
ATP=$!
taskset -c 0 nginx -c "$FOLDER/nginx.conf" -p "$FOLDER" 2>/dev/null &
NGINX=$!
until curl -sf -o /dev/null --cacert certs/ca.pem https://localhost:19444/healthz &&
    curl -sf -o /dev/null --cacert certs/ca.pem https://localhost:19544/; do read -rt 0.1 <> <(:) || true; done
WORKER=$(pgrep -P "$NGINX")

# handshakes NAME ADDRESS PID FLAGS...
handshakes() {
    local name=$1 address=$2 pid=$3
    shift 3
    printf '%-6s %-44s ' "$name" "${*:-}"
    taskset -c 1 "$BIN/loadtest" tls --ca certs/ca.pem --seconds "$SECONDS_EACH" --address "$address" --pid "$pid" "$@"
}

own=(--cert certs/tenant.pem --key certs/tenant.key)
for round in $(seq "$ROUNDS"); do
    echo "round $round"
    for flags in "" "--resume" "${own[*]}" "${own[*]} --resume"; do
        # shellcheck disable=SC2086  # words, on purpose
        handshakes atp 127.0.0.1:19444 "$ATP" $flags
        # shellcheck disable=SC2086
        handshakes nginx 127.0.0.1:19544 "$WORKER" $flags
    done
done
