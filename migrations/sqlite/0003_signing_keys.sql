-- The life of a signing key: published to gates, signing, retired until its last token has expired, then its row is deleted.

ALTER TABLE signing_keys ADD COLUMN state TEXT NOT NULL DEFAULT 'signing'
    CHECK (state IN ('published', 'signing', 'retired'));
-- When it came into its state.
ALTER TABLE signing_keys ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
-- Published: signs nothing before. Retired: may be dropped from then on.
ALTER TABLE signing_keys ADD COLUMN until INTEGER;
-- Of the tokens that it may have signed, in seconds.
ALTER TABLE signing_keys ADD COLUMN longest_lifetime INTEGER NOT NULL DEFAULT 0;

-- Until now the newest key signed once the gates had it, and the one before until then. Tokens live for 366 days at most.
UPDATE signing_keys SET since = created_at;
UPDATE signing_keys SET state = 'published', until = created_at
    WHERE revision = (SELECT max(revision) FROM signing_keys)
    AND (SELECT count(*) FROM signing_keys) > 1;
UPDATE signing_keys SET state = 'retired', until = (unixepoch() + 366 * 86400) * 1000
    WHERE state = 'signing'
    AND revision < (SELECT max(revision) FROM signing_keys WHERE state = 'signing');

CREATE UNIQUE INDEX signing_keys_in_use ON signing_keys (state) WHERE state <> 'retired';

-- An operation about a signing key has no service: that is empty then.
ALTER TABLE operations ADD COLUMN signing_key TEXT;
-- For how long it waits for gates, in milliseconds; null for the configured time.
ALTER TABLE operations ADD COLUMN timeout INTEGER;
