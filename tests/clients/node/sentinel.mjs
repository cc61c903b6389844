// node-redis and ioredis by a Sentinel, at once: tests/clients/sentinel/python says what of.
import assert from 'node:assert/strict'
import { execSync } from 'node:child_process'
import { Redis } from 'ioredis-5'
import { createSentinel } from 'redis-5'
import { done, host, lost, password, test, until, username } from './tap.mjs'

const sentinelPort = Number(process.env.SENTINEL_PORT)
const login = { username, password }
const older = new Redis({ sentinels: [{ host, port: sentinelPort }], name: 'cell', ...login })
const newer = createSentinel({ name: 'cell', sentinelRootNodes: [{ host, port: sentinelPort }], nodeClientOptions: login })
older.on('error', () => {})
newer.on('error', () => {})
await newer.connect()

for (const [name, client] of [['ioredis', older], ['node-redis', newer]])
    await test(`${name} finds the primary`, async () => assert.equal(await client.set(`before ${name}`, 'kept'), 'OK'))
execSync(process.env.KILL)
for (const [name, client] of [['ioredis', older], ['node-redis', newer]])
    await test(`${name} follows a failover`, async () => {
        await until(async () => (await client.set(`after ${name}`, '1').catch(lost)) === 'OK')
        assert.equal(await client.get(`before ${name}`), 'kept')
        assert.equal(await client.get(`after ${name}`), '1')
    })
done()
