//! Calls whose answers bollard has no words for: of the tasks of a swarm it leaves out the networks.

use bollard::errors::Error;
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
        // One that falls silent in the middle is ended by the line.
        let body = body.await.map_err(|err| self.explain(what, Error::HyperResponseError { err }))?.to_bytes();
        if !status.is_success() {
            let Fault { message } = serde_json::from_slice(&body).unwrap_or_default();
            let status_code = status.as_u16();
            return Err(self.explain(what, Error::DockerResponseServerError { status_code, message }));
        }
        serde_json::from_slice(&body).map_err(|why| failed(format!("its answer cannot be read: {why}")))
    }
}
