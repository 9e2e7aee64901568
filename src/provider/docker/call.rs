//! Calls whose answers bollard has no words for: of the tasks of a swarm it leaves out the networks.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::connect::{ANSWER, Engine, EngineError};

/// How the engine says what is wrong.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fault {
    message: String,
}

impl Engine {
    /// The answer to `GET path`. `what` names the call in messages.
    pub async fn get<T: DeserializeOwned>(&self, what: &'static str, path: &str) -> Result<T, EngineError> {
        let failed = |why: String| EngineError::Call { what, why };
        let request =
            Request::get(path).body(bollard::body_full(Bytes::new())).map_err(|why| failed(why.to_string()))?;
        let answered = timeout(ANSWER, self.line.exchange(request)).await.map_err(|_| EngineError::Slow(what))?;
        let response = answered.map_err(|error| self.explain(what, error))?;
        let status = response.status();
        let body = response.into_body().collect();
        let body = timeout(ANSWER, body).await.map_err(|_| EngineError::Slow(what))?;
        let body = body.map_err(|why| failed(format!("its answer broke off ({why})")))?.to_bytes();
        if !status.is_success() {
            let Fault { message } = serde_json::from_slice(&body).unwrap_or_default();
            return Err(failed(if message.is_empty() { status.to_string() } else { message }));
        }
        serde_json::from_slice(&body).map_err(|why| failed(format!("its answer cannot be read: {why}")))
    }
}
