//! `identity_*` and `reload`: the configuration changes, and what runs follows at once.

use clawchat_ipc::{ErrorCode, Failure, Request};
use serde_json::{Value, json};

use super::Api;
use crate::admin::{self, Effect};
use crate::hosting;

impl Api {
    /// Carries the request out to its end, even if the caller hangs up in the middle: files and running identities
    /// must not drift apart.
    pub(super) async fn administer(&self, who: Option<&str>, request: Request) -> Result<Value, Failure> {
        let (api, who) = (Self::new(self.gateway.clone()), who.map(str::to_owned));
        let work = self
            .gateway
            .tasks
            .spawn(async move { api.carry_out(who.as_deref(), request).await });
        work.await
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?
    }

    async fn carry_out(&self, who: Option<&str>, request: Request) -> Result<Value, Failure> {
        if let Request::Reload = request {
            return hosting::reload(&self.gateway).await;
        }
        let request = self.with_principals(request);
        let (gateway, who) = (self.gateway.clone(), who.map(str::to_owned));
        let mut owned = self.gateway.owned.clone().lock_owned().await;
        // Sealing and opening keys takes a third of a second of one core.
        let (owned, applied) = tokio::task::spawn_blocking(move || {
            let loaded = |principal: &clawchat_types::Principal| gateway.hosts.find(principal).is_some();
            let owned_now = &mut *owned;
            let applied = admin::apply(
                &owned_now.lock,
                &mut owned_now.config,
                who.as_deref(),
                request,
                &loaded,
            );
            (owned, applied)
        })
        .await
        .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        let mut applied = applied?;
        match applied.effect {
            Effect::Nothing => {}
            Effect::Changed => hosting::apply(&self.gateway, &owned.config),
            Effect::Added(identity) => {
                hosting::apply(&self.gateway, &owned.config);
                let autoload = hosting::is_autoload(&owned.config, identity.principal());
                // It is there all the same, and its words are shown this once.
                if !autoload {
                    applied.result["loaded"] = json!(false);
                } else if let Err(error) = hosting::host(&self.gateway, &owned.config, *identity).await {
                    applied.result["loaded"] = json!(false);
                    applied.result["warning"] = json!(format!(
                        "the identity was added, but it cannot be served: {error}"
                    ));
                }
            }
            Effect::Removed(principal) => {
                // First out of service, then off the list: peers are told that it is not here, not that they are refused.
                let principal = principal.get();
                if let Ok(principal) = &principal {
                    hosting::unhost(&self.gateway, principal).await;
                }
                hosting::apply(&self.gateway, &owned.config);
                if let Ok(principal) = &principal {
                    crate::setup::set_aside(&owned.lock, principal)?;
                }
            }
        }
        drop(owned);
        Ok(applied.result)
    }

    /// Aliases of peers are known to the stores only: access lists hold principals.
    fn with_principals(&self, request: Request) -> Request {
        let resolve = |who: &str, peer: String| {
            let hosted = self
                .gateway
                .hosts
                .by_name(who)
                .or_else(|| self.gateway.hosts.first());
            match hosted.map(|hosted| self.sender(&hosted, &peer)) {
                Some(Ok(principal)) => principal.to_string(),
                Some(Err(_)) | None => peer,
            }
        };
        match request {
            Request::IdentityAllow { who, peer } => {
                let peer = resolve(&who, peer);
                Request::IdentityAllow { who, peer }
            }
            Request::IdentityDeny { who, peer } => {
                let peer = resolve(&who, peer);
                Request::IdentityDeny { who, peer }
            }
            other => other,
        }
    }
}

/// The answer to a reload.
pub(crate) fn reloaded(loaded: usize, not_loaded: &[Value]) -> Value {
    json!({ "status": "reloaded", "loadedIdentities": loaded, "notLoaded": not_loaded })
}
