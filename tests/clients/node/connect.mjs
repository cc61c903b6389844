// connect-redis: sessions of an Express application.
import assert from 'node:assert/strict'
import { promisify } from 'node:util'
import { RedisStore } from 'connect-redis'
import { done, host, lost, node20, password, port, restart, test, until, username } from './tap.mjs'

const { createClient } = await import(node20 ? 'redis' : 'redis-5')
const client = createClient({ socket: { host, port }, username, password })
client.on('error', () => {})
await client.connect()
const store = new RedisStore({ client, prefix: 'session:', ttl: 100 })
const call = (name, ...args) => promisify(store[name]).call(store, ...args)

await test('sessions', async () => {
    await call('set', 'a', { user: 1, cookie: {} })
    assert.deepEqual(await call('get', 'a'), { user: 1, cookie: {} })
    assert.ok((await client.ttl('session:a')) > 90)
    await call('touch', 'a', { cookie: { expires: new Date(Date.now() + 1000000) } })
    assert.ok((await client.ttl('session:a')) > 900)
    await call('destroy', 'a')
    assert.equal((await call('get', 'a')) ?? null, null)
})

await test('listing', async () => {
    await Promise.all(Array.from({ length: 300 }, (_, i) => call('set', `s${i}`, { i, cookie: {} })))
    assert.equal(await call('length'), 300)
    assert.equal((await call('ids')).length, 300)
    assert.equal((await call('all')).length, 300)
    await call('clear')
    assert.equal(await call('length'), 0)
})

await test('reconnects', async () => {
    await call('set', 'kept', { user: 2, cookie: {} })
    restart()
    await until(async () => (await call('get', 'kept').catch(lost))?.user === 2)
})

done()
