//! `atp mcp`: the tools of a data plane, or of any server that speaks MCP over HTTP, from the terminal.

use std::io::Write;
use std::process::ExitCode;

use sdk_rust::Mcp;
use serde_json::{Map, Value};

use crate::outcome;
use crate::reach::{Carriage, Trust};

/// List the tools of a server that speaks MCP, and call them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  atp mcp list\n  atp mcp call route.complete prompt=\"Why?\"\n  \
    atp mcp call adapter.local prompt=hi max_tokens=20 --json")]
pub struct McpArgs {
    #[command(subcommand)]
    command: McpCommand,
    /// The server: a data plane, or the whole address of another [default: where `atp up` listens]
    #[arg(long, env = "ATP_BASE_URL", global = true)]
    url: Option<String>,
    #[command(flatten)]
    trust: Trust,
    /// Print what came as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum McpCommand {
    /// Print the tools there are, with their arguments
    List,
    /// Call a tool and print its answer as it comes
    Call {
        /// The tool
        name: String,
        /// Its arguments: `name=value`, the value as JSON where it is that, else as text
        #[arg(value_name = "NAME=VALUE")]
        arguments: Vec<String>,
    },
}

/// Lists or calls.
pub fn run(args: &McpArgs) -> ExitCode {
    outcome::of(tokio::runtime::Builder::new_current_thread().enable_all().build(), speak(args))
}

async fn speak(args: &McpArgs) -> Result<(), String> {
    let url = args.url.clone().unwrap_or_else(|| Carriage::Ws.default_url().to_owned());
    let server = Mcp { key: args.trust.key.clone(), tls: args.trust.tls(&url), url };
    match &args.command {
        McpCommand::List => list(&server, args.json).await,
        McpCommand::Call { name, arguments } => call(&server, name, read(arguments)?, args.json).await,
    }
}

async fn list(server: &Mcp, json: bool) -> Result<(), String> {
    let tools = server.tools().await.map_err(|failure| failure.to_string())?;
    for tool in tools {
        match json {
            true => print(&format!("{tool}\n"))?,
            false => print(&shown(&tool))?,
        }
    }
    Ok(())
}

/// A tool and its arguments, those it needs first.
fn shown(tool: &Value) -> String {
    let name = tool["name"].as_str().unwrap_or_default();
    let what = tool["description"].as_str().unwrap_or_default();
    let mut text = format!("{name}: {what}\n");
    let needed = tool["inputSchema"]["required"].as_array();
    let is_needed = |name: &str| needed.is_some_and(|needed| needed.iter().any(|one| one == name));
    let properties = tool["inputSchema"]["properties"].as_object();
    let mut properties: Vec<_> = properties.into_iter().flatten().collect();
    properties.sort_by_key(|(name, _)| !is_needed(name));
    for (name, of) in properties {
        let mut told: Vec<String> = vec![of["type"].as_str().unwrap_or("anything").into()];
        if let Some(words) = of["enum"].as_array() {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            told.push(format!("one of {}", words.join(", ")));
        }
        match &of["default"] {
            Value::Null if is_needed(name) => told.push("needed".into()),
            Value::Null => {}
            Value::String(word) => told.push(format!("default {word}")),
            other => told.push(format!("default {other}")),
        }
        text.push_str(&format!("  {name} ({})\n", told.join("; ")));
    }
    text
}

async fn call(server: &Mcp, name: &str, arguments: Map<String, Value>, json: bool) -> Result<(), String> {
    let mut has_begun = false;
    let mut broken = None;
    let result = server.call(name, arguments, |text| {
        if !json && broken.is_none() {
            has_begun = true;
            broken = print(text).err();
        }
    });
    let result = result.await.map_err(|failure| failure.to_string())?;
    if let Some(error) = broken {
        return Err(error);
    }
    let content = result["content"].as_array().into_iter().flatten();
    let text: Vec<_> = content.filter_map(|item| item["text"].as_str()).collect();
    if result["isError"] == true {
        return Err(text.join("\n"));
    }
    match (json, has_begun) {
        (true, _) => print(&format!("{result}\n")),
        (false, true) => print("\n"),
        (false, false) => print(&format!("{}\n", text.join("\n"))),
    }
}

fn read(arguments: &[String]) -> Result<Map<String, Value>, String> {
    let pairs = arguments.iter().map(|argument| {
        let (name, value) =
            argument.split_once('=').ok_or_else(|| format!("`{argument}` is no NAME=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into()));
        Ok((name.to_owned(), value))
    });
    pairs.collect()
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_json_where_they_are_that_and_text_elsewhere() {
        let read = |arguments: &[&str]| {
            read(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
        };
        let told = read(&["prompt=why = so?", "max_tokens=5", "names=[1]", "empty="]).unwrap();
        let wanted = json!({"prompt": "why = so?", "max_tokens": 5, "names": [1], "empty": ""});
        assert_eq!(Value::Object(told), wanted);
        assert!(read(&["prompt"]).unwrap_err().contains("NAME=VALUE"));
    }

    #[test]
    fn a_tool_is_shown_with_what_it_needs_first() {
        let schema = json!({"properties": {"a": {"type": "integer", "default": 5}, "b": {"type": "string"},
            "c": {"type": "string", "enum": ["x", "y"], "default": "x"}}, "required": ["b"]});
        let tool = json!({"name": "t", "description": "does", "inputSchema": schema});
        let wanted = "t: does\n  b (string; needed)\n  a (integer; default 5)\n  \
                      c (string; one of x, y; default x)\n";
        assert_eq!(shown(&tool), wanted);
    }
}
