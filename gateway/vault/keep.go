package vault

// schemaKeep is the room "vault keep".
const schemaKeep = `
ALTER TABLE vault_deposits ADD COLUMN said TEXT NOT NULL DEFAULT ''; -- the state, held or destroyed, that its sender was told of
UPDATE vault_deposits SET said = state WHERE state = 'held';
UPDATE vault_deposits SET said = state WHERE state = 'destroyed' AND sending NOT IN (SELECT id FROM vault_sendings WHERE told = 0 AND next_due > 0);`
