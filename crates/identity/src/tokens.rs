//! Tokens that this gateway issues: short-lived, bound to principal, connection, session and task, and
//! worthless anywhere else.

use record::{CredentialKind, Principal, PrincipalKind, Proof, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

use crate::principal_of::credential;
use crate::{Identified, Identity, Stranger, bearer};

/// Marks a token as ours, for us and for whoever scans for leaked secrets.
pub const TOKEN_PREFIX: &str = "hsd_";
/// A token lives at most so long, in seconds.
pub const TOKEN_SECS_MAX: i64 = 3600;

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenClaims {
    pub iss: String,
    pub jti: String,
    pub iat: i64,
    pub exp: i64,
    pub principal: Principal,
    pub proof: Proof,
    /// The only connection it may use.
    pub connection: Option<String>,
    pub session: SessionId,
    /// What counts as the same credential for sessions.
    pub session_key: String,
    /// The virtual key behind it, by its `client_email`: revoking the key ends the token.
    pub key: Option<String>,
    /// The sign-in behind it.
    #[serde(default)]
    pub login: Option<String>,
    /// When the provider's own session ends; the token is refused after it.
    pub provider_exp: Option<i64>,
    /// The session is the token's own, as `hansard exec` opens one.
    #[serde(default)]
    pub own: Option<OwnSession>,
}

/// A session that was opened by name: it is not over when it is idle, and it may have an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnSession {
    /// Seconds since 1970; no token of it lives longer.
    pub ends: Option<i64>,
}

/// What a session is opened for.
#[derive(Clone, Debug)]
pub struct Opening {
    pub connection: String,
    /// What runs in it.
    pub agent: String,
    /// Empty: the credential's own.
    pub task: String,
    pub ends: Option<i64>,
}

/// A token granted at `/token`.
#[derive(Debug)]
pub struct Grant {
    pub access_token: String,
    pub expires_in: i64,
    /// For the next one, where a person signed in.
    pub refresh_token: Option<String>,
}

/// Why `/token` grants none; RFC 6749 section 5.2.
#[derive(Debug)]
pub enum GrantError {
    UnsupportedGrantType,
    InvalidRequest(&'static str),
    InvalidGrant(Stranger),
    /// The code or refresh token is not good, or not any more.
    NotGood,
    /// RFC 8628 section 3.5.
    AuthorizationPending,
    SlowDown,
    AccessDenied,
    ExpiredToken,
}

impl GrantError {
    /// The error's code in the answer.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidGrant(_) | Self::NotGood => "invalid_grant",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::AccessDenied => "access_denied",
            Self::ExpiredToken => "expired_token",
        }
    }
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedGrantType => f.write_str(
                "granted here: jwt-bearer, token-exchange, authorization_code, device_code and refresh_token",
            ),
            Self::InvalidRequest(what) => write!(f, "the form has no usable '{what}'"),
            Self::InvalidGrant(why) => why.fmt(f),
            Self::NotGood => f.write_str("it is not good, or not any more; sign in again"),
            Self::AuthorizationPending => f.write_str("nobody has approved the device yet"),
            Self::SlowDown => f.write_str("ask less often"),
            Self::AccessDenied => f.write_str("the device was refused"),
            Self::ExpiredToken => f.write_str("the device code has expired; start again"),
        }
    }
}

impl Identity {
    /// Checks the assertion of a JWT-bearer grant (RFC 7523) by a virtual key.
    pub fn check_assertion(&self, assertion: &str) -> Result<Identified, GrantError> {
        let peeked = bearer::peek(assertion).map_err(GrantError::InvalidGrant)?;
        let key = self
            .keys
            .by_email(&peeked.iss)
            .ok_or_else(|| GrantError::InvalidGrant(Stranger::UnknownIssuer(peeked.iss.clone())))?;
        key.identify(assertion, &peeked, &self.public_url, self.clock.now()).map_err(GrantError::InvalidGrant)
    }

    /// Somebody just identified, as whoever runs in the session that they open.
    pub fn open(&self, who: &Identified, session: SessionId, opening: Opening) -> Identified {
        let mut within = who.clone();
        let principal = &mut within.principal;
        if principal.kind == PrincipalKind::Person {
            principal.on_behalf_of =
                if principal.email.is_empty() { principal.id.clone() } else { principal.email.clone() };
        }
        principal.kind = PrincipalKind::Agent;
        principal.agent = opening.agent;
        // A task that the credential was issued for is not the session's to choose.
        if principal.task.is_empty() {
            principal.task = opening.task;
        }
        within.connection = Some(opening.connection);
        within.session = Some(session);
        within.session_key = format!("session:{session}");
        within.own = Some(OwnSession { ends: opening.ends });
        within
    }

    /// The same from a token of that session, which may have expired: who proves to be the same principal takes
    /// the session up again.
    pub fn reopen(&self, who: &Identified, token: &str) -> Result<Identified, Stranger> {
        let ours = token.strip_prefix(TOKEN_PREFIX).ok_or(Stranger::Opaque)?;
        let claims: TokenClaims = self.token_key.verify(ours).ok_or(Stranger::Signature)?;
        let own = claims.own.ok_or(Stranger::MissingClaim("own"))?;
        let is_same = claims.iss == self.public_url
            && claims.principal.id == who.principal.id
            && claims.principal.idp == who.principal.idp;
        if !is_same {
            return Err(Stranger::Audience);
        }
        if self.ended.contains(claims.session) {
            return Err(Stranger::SessionEnded);
        }
        if own.ends.is_some_and(|ends| ends <= self.clock.now().secs()) {
            return Err(Stranger::Expired);
        }
        // Groups are those of now; what runs there is what it was opened for.
        let opening = Opening {
            connection: claims.connection.unwrap_or_default(),
            agent: claims.principal.agent,
            task: claims.principal.task,
            ends: own.ends,
        };
        Ok(self.open(who, claims.session, opening))
    }

    /// A token for somebody just identified, in a session that its caller opened.
    pub fn issue(&self, who: &Identified, session: SessionId) -> Grant {
        let now = self.clock.now();
        let ends = who.own.as_ref().and_then(|own| own.ends).unwrap_or(i64::MAX);
        let life = TOKEN_SECS_MAX.min(self.key_secs_left(who, now)).min(ends.saturating_sub(now.secs()));
        let is_key = who.credential.kind == CredentialKind::Key;
        let claims = TokenClaims {
            iss: self.public_url.clone(),
            jti: record::RecordId::new(now).to_string(),
            iat: now.secs(),
            exp: now.secs() + life,
            principal: who.principal.clone(),
            proof: who.proof,
            connection: who.connection.clone(),
            session,
            session_key: who.session_key.clone(),
            key: who.key.clone().or_else(|| is_key.then(|| who.credential.id.clone())),
            login: who.login.clone(),
            provider_exp: (!is_key).then(|| who.expires.secs()),
            own: who.own.clone(),
        };
        Grant {
            access_token: format!("{TOKEN_PREFIX}{}", self.token_key.sign(&claims)),
            expires_in: life,
            refresh_token: None,
        }
    }

    fn key_secs_left(&self, who: &Identified, now: Timestamp) -> i64 {
        match self.keys.by_id(&who.credential.id) {
            Some(key) => key.key.expires_at.secs() - now.secs(),
            None => who.expires.secs() - now.secs(),
        }
    }
}

/// Checks a token of ours, without its prefix.
pub(crate) fn identify(identity: &Identity, token: &str) -> Result<Identified, Stranger> {
    let claims: TokenClaims = identity.token_key.verify(token).ok_or(Stranger::Signature)?;
    let now = identity.clock.now();
    let ends = claims.provider_exp.map_or(claims.exp, |exp| exp.min(claims.exp));
    if ends <= now.secs() {
        return Err(Stranger::Expired);
    }
    if claims.iss != identity.public_url {
        return Err(Stranger::UnknownIssuer(claims.iss));
    }
    if let Some(id) = &claims.key {
        let live = identity.keys.by_id(id).is_some_and(|key| key.is_live(now));
        if !live {
            return Err(Stranger::Revoked);
        }
    }
    let credential = credential(CredentialKind::Token, claims.jti);
    Ok(Identified {
        principal: claims.principal,
        credential,
        proof: claims.proof,
        key: claims.key,
        login: claims.login,
        connection: claims.connection,
        session: Some(claims.session),
        session_key: claims.session_key,
        own: claims.own,
        expires: Timestamp::from_secs(ends),
    })
}
