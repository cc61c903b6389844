// node-redis, both generations, RESP2 and RESP3. tests/clients/python says what of.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { ca, done, host, lost, node20, password, port, restart, test, tlsPort, until, username } from './tap.mjs'

async function all(name, RESP) {
    const { createClient, RESP_TYPES } = await import(name)
    const title = (what) => `${name} RESP${RESP} ${what}`
    const bytes = (client) => client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer })
    const connect = async (options = {}) => {
        const client = createClient({ socket: { host, port }, username, password, RESP, ...options })
        client.on('error', () => {})
        return client.connect()
    }
    const r = await connect()
    await r.flushAll()

    await test(title('login'), async () => {
        assert.equal(await r.ping(), 'PONG')
        const once = { socket: { host, port, reconnectStrategy: false } }
        await assert.rejects(connect({ ...once, password: 'wrong' }), /WRONGPASS/)
        await assert.rejects(connect({ ...once, username: undefined, password: undefined }).then((c) => c.get('k')), /NOAUTH/)
        const other = await connect({ database: 3, name: 'node' })
        await other.set('where', 'three')
        assert.equal(await other.clientGetName(), 'node')
        assert.equal(await r.get('where'), null)
        await other.close()
    })

    await test(title('tls'), async () => {
        const value = randomBytes(300000)
        const safe = await connect({ socket: { host, port: tlsPort, tls: true, ca: ca() } })
        await safe.set('tls', value)
        assert.ok((await bytes(safe).get('tls')).equals(value))
        await safe.close()
        await assert.rejects(connect({ socket: { host, port: tlsPort, tls: true, reconnectStrategy: false } }), /certificate/)
    })

    await test(title('values'), async () => {
        assert.equal(await r.set('a', '1', { EX: 100 }), 'OK')
        assert.ok((await r.ttl('a')) > 90)
        assert.equal(await r.set('a', '2', { NX: true }), null)
        assert.equal(await r.set('a', '2', { XX: true, GET: true }), '1')
        assert.equal(await r.incrBy('n', 5), 5)
        assert.equal(Number(await r.incrByFloat('n', 0.5)), 5.5)
        assert.equal(await r.mSet({ m1: 'x', m2: 'y' }), 'OK')
        assert.deepEqual(await r.mGet(['m1', 'none', 'm2']), ['x', null, 'y'])
        assert.equal(await r.append('m1', 'z'), 2)
        assert.equal(await r.getDel('m2'), 'y')
        assert.equal(await r.exists(['m1', 'm2']), 1)
        assert.equal(await r.del(['m1', 'm2']), 1)
    })

    await test(title('binary and big values'), async () => {
        const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
        await r.set(every, every)
        assert.ok((await bytes(r).get(every)).equals(every))
        const big = randomBytes(1000000)
        await r.set('big', big)
        assert.ok((await bytes(r).get('big')).equals(big))
        await assert.rejects(r.set('bigger', Buffer.concat([big, big])), /TOOBIG/)
        assert.equal(await r.ping(), 'PONG')
    })

    await test(title('pipelines'), async () => {
        const answers = []
        for (let i = 0; i < 1000; i++) answers.push(r.set(`p:${i}`, i.toString()), r.incr('count'), r.get(`p:${i}`))
        const wanted = Array.from({ length: 1000 }, (_, i) => ['OK', i + 1, String(i)]).flat()
        assert.deepEqual(await Promise.all(answers), wanted)
    })

    await test(title('transactions'), async () => {
        assert.deepEqual(await r.multi().set('t', '1').incr('t').get('t').exec(), ['OK', 2, '2'])
        const watcher = await connect()
        await watcher.watch('t')
        await r.set('t', '10')
        await assert.rejects(watcher.multi().set('t', '3').exec(), /watch/i)
        assert.equal(await r.get('t'), '10')
        await watcher.close()
    })

    await test(title('channels'), async () => {
        const listener = await connect()
        const heard = []
        await listener.subscribe('news', (message, channel) => heard.push([channel, message]))
        await listener.pSubscribe('n?ws', (message, channel) => heard.push([channel, message]))
        assert.equal(await r.publish('news', 'hello'), 2)
        await until(() => heard.length === 2)
        assert.deepEqual(heard, [['news', 'hello'], ['news', 'hello']])
        await listener.close()
    })

    await test(title('listing'), async () => {
        const other = await connect({ database: 5 })
        const sets = []
        for (let i = 0; i < 1000; i++) sets.push(other.set(`list:${i}`, '1'), other.set(`other:${i}`, '1'))
        await Promise.all(sets)
        const seen = new Set()
        for await (const keys of other.scanIterator({ MATCH: 'list:*', COUNT: 100, TYPE: 'string' })) for (const k of keys) seen.add(k)
        assert.equal(seen.size, 1000)
        assert.equal(await other.dbSize(), 2000)
        await other.flushDb()
        assert.equal(await other.dbSize(), 0)
        await other.close()
    })

    await test(title('secrets'), async () => {
        const vault = `team-${name}-${RESP}`
        const say = (...args) => r.sendCommand(args)
        assert.equal(await say('VAULT.CREATE', vault), 'OK')
        assert.equal(await say('SECRET.SET', vault, 'db/password', 'one'), 1)
        assert.equal(await say('SECRET.SET', vault, 'db/password', 'two'), 2)
        assert.equal(await say('SECRET.GET', vault, 'db/password', 'VERSION', '1'), 'one')
        assert.equal(await r.get(`{${vault}}/db/password`), 'two')
        assert.equal(await say('KEY.CREATE', vault, 'k'), 1)
        const sealed = await r.sendCommand(['KEY.ENCRYPT', vault, 'k', 'text'], { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } })
        assert.equal(await say('KEY.DECRYPT', vault, 'k', sealed), 'text')
    })

    await test(title('reconnects'), async () => {
        const listener = await connect()
        const heard = []
        await listener.subscribe('back', (message) => heard.push(message))
        await r.set('before', 'kept')
        restart()
        await until(async () => (await r.get('before').catch(lost)) === 'kept')
        assert.equal(await r.set('after', '1'), 'OK')
        await until(async () => (await r.publish('back', 'again').catch(lost)) === 1)
        await until(() => heard.length > 0)
        await listener.close()
    })
    await r.close()
}

for (const RESP of [2, 3]) {
    await all('redis-5', RESP)
    if (node20) await all('redis', RESP)
}
done()
